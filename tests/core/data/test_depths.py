"""Photos of 16 bits: the range that a folder's photos use, and what is read of them with it."""

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.depths import FULL, chosen, histogram, is_deep, shows_little, to_bytes, used
from semiseg_cli.core.data.photos import read_deep, read_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(7000, 9000, (8, 11)).astype(np.uint16)
COLOUR = RNG.integers(0, 4096, (8, 11, 3)).astype(np.uint16)


def exif(orientation):
    table = Image.Exif()
    table[0x0112] = orientation
    return table


def test_the_range_leaves_out_hot_and_dead_pixels():
    values = RNG.integers(7000, 9001, 100_000)
    values[:20], values[20:40] = 0, 65535
    low, high = used(histogram(values))
    assert 7000 <= low <= 7010
    assert 8990 <= high <= 9000
    assert chosen(histogram(values)) == (low, high)


@pytest.mark.parametrize(("top", "stretched"), [(4095, True), (16383, True), (40000, False), (65535, False)])
def test_a_range_is_chosen_where_less_than_half_is_used(top, stretched):
    found = chosen(histogram(np.linspace(0, top, 10_000).astype(int)))
    assert (found != FULL) == stretched
    if stretched:
        assert found == pytest.approx((0, top), abs=top / 200)


def test_one_value_is_a_range():
    assert chosen(histogram(np.full(9, 500))) == (500, 501)
    assert chosen(np.zeros(65536, np.int64)) != (0, 0)


def test_values_become_bytes():
    values = np.array([0, 6999, 7000, 7500, 8000, 8001, 65535])
    assert to_bytes(values, (7000, 8000)).tolist() == [0, 0, 0, 128, 255, 255, 255]
    assert to_bytes(np.array([0, 255, 256, 65535]), FULL).tolist() == [0, 0, 1, 255]


def test_a_photo_that_shows_little():
    assert shows_little((0, 4095), FULL)
    assert not shows_little((0, 20000), FULL)
    assert shows_little((60000, 65000), (0, 4095))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_16_bits(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), GREY)
    assert is_deep(tmp_path / name)
    assert np.array_equal(read_deep(tmp_path / name), GREY)
    wanted = np.rint((GREY.astype(float) - 7000).clip(0, 1500) / 1500 * 255)
    assert np.array_equal(read_image(tmp_path / name, (7000, 8500)), np.repeat(wanted[:, :, None], 3, 2))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_colour_of_16_bits_upright(tmp_path, name, orientation):
    """Pillow knows the upper byte alone, which is all that it turns here; a PNG's EXIF is put in by hand."""
    path = tmp_path / name
    cv2.imwrite(str(path), COLOUR[:, :, ::-1])
    if name.endswith("png"):
        turned(path, orientation)
    elif orientation > 1:
        pytest.skip("OpenCV writes no orientation into a TIFF")
    upper = read_image(path)
    values = read_deep(path)
    assert is_deep(path)
    assert np.array_equal(values >> 8, upper)
    assert sorted(values.ravel()) == sorted(COLOUR.ravel())
    wanted = np.rint(values.clip(0, 4095) / 4095 * 255)
    assert np.array_equal(read_image(path, (0, 4095)), wanted)


def turned(path, orientation):
    """Put an eXIf chunk into a PNG, behind its header."""
    import struct
    import zlib

    whole, chunk = path.read_bytes(), b"eXIf" + exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    piece = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole[:33] + piece + whole[33:])


def test_8_bits_are_left_alone(tmp_path):
    pixels = RNG.integers(0, 256, (5, 6, 3), np.uint8)
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
        assert not is_deep(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name, (0, 100)), pixels)
    (tmp_path / "b.png").write_bytes(b"no image")
    assert not is_deep(tmp_path / "b.png")
    assert not is_deep(tmp_path / "absent.png")
