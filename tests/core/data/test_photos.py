"""Photos as people have them: any orientation, mode and depth, whole or not; reduced as means over areas."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import semiseg_cli
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.photos import as_rgb, image_size, is_plain, read_image, reduced, reduced_size
from semiseg_cli.core.errors import DataError

PHOTO = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def exif(orientation):
    table = Image.Exif()
    table[0x0112] = orientation
    return table


GREY = np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5)
MODES = {
    "grey": (Image.fromarray(GREY), GREY),
    "bilevel": (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    "16 bit": (Image.fromarray(GREY.astype(np.uint16) * 256 + 77), GREY),
    "transparent": (Image.merge("RGBA", [Image.fromarray(GREY)] * 3 + [Image.fromarray(GREY[::-1].copy())]), GREY),
    "grey with alpha": (Image.merge("LA", [Image.fromarray(GREY)] * 2), GREY),
    "palette": (Image.fromarray(GREY).convert("P"), GREY),
}


@pytest.mark.parametrize("mode", MODES)
def test_read_image_takes_any_mode(tmp_path, mode):
    image, expected = MODES[mode]
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.repeat(expected[:, :, None], 3, 2))


def test_16_bit_colour_is_read_and_never_plain(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), PHOTO[:, :, ::-1].astype(np.uint16) * 256 + 77)
    assert np.array_equal(read_image(path), PHOTO)
    assert not is_plain(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page"),
        (b"no picture", "cannot identify"),
    ],
)
def test_what_is_no_picture_is_told_as_what_it_is(tmp_path, content, said):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        read_image(tmp_path / "a.png")
    assert said in caught.value.why


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match="half"):
        read_image(path)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="floating"):
        read_image(tmp_path / "a.tiff")


def test_plain_files_need_no_copy(tmp_path):
    write_image(tmp_path / "a.png", PHOTO)
    write_image(tmp_path / "a.jpg", PHOTO)
    assert is_plain(tmp_path / "a.png")
    assert is_plain(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.png"), PHOTO)
    Image.fromarray(PHOTO).save(tmp_path / "turned.jpg", exif=exif(6))
    Image.fromarray(PHOTO).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(PHOTO).convert("P").save(tmp_path / "p.png")
    assert not any(is_plain(tmp_path / name) for name in ("turned.jpg", "print.jpg", "p.png"))


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.bmp"])
def test_image_size_asks_whether_the_file_is_whole(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    assert image_size(path) == (30, 50)
    path.write_bytes(whole + b"\0")  # something behind the end: every decoder reads it
    assert image_size(path) == (30, 50)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        image_size(path)


@pytest.mark.parametrize(
    ("size", "long_side"), [((12, 8), 4), ((7, 5), 3), ((5, 13), 12), ((1, 30), 7), ((30, 1), 7), ((64, 48), 63)]
)
def test_a_reduced_pixel_is_the_mean_of_its_area(size, long_side):
    """Against the photo enlarged so often that every new pixel is a whole number of old ones."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    height, width = reduced_size(*size, long_side)
    assert max(height, width) == long_side
    fine = image.astype(np.float64).repeat(height, 0).repeat(width, 1)
    means = fine.reshape(height, size[0], width, size[1], 3).mean((1, 3))
    found = reduced(image, long_side)
    assert (found.dtype, found.shape) == (np.uint8, (height, width, 3))
    assert np.abs(found - means).max() <= 0.5 + 1e-3
    assert found.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("long_side", [0, 7, 8])
def test_what_is_small_enough_is_the_same_image(long_side):
    assert reduced(PHOTO, long_side) is PHOTO


def test_a_path_a_picture_and_an_array_are_the_same_photo(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(path, exif=exif(6))
    upright = np.rot90(PHOTO, -1)
    for given in (path, str(path), Image.open(path), Image.open(path).convert("RGB"), upright):
        assert np.array_equal(as_rgb(given), upright)
    for other in (PHOTO[:, :, 0], PHOTO.astype(np.float32), PHOTO[None]):
        with pytest.raises(ValueError, match="height, width, 3"):
            as_rgb(other)


def tiff(path, bands, extra=None, photometric=2):
    """An uncompressed TIFF of 2x3 pixels and so many channels, as other programs write it."""
    pixels = np.arange(6 * bands, dtype=np.uint8).tobytes()
    tags = {256: (3, (3,)), 257: (3, (2,)), 258: (3, (8,) * bands), 259: (3, (1,)), 262: (3, (photometric,)),
            273: (4, (8,)), 277: (3, (bands,)), 278: (3, (2,)), 279: (4, (len(pixels),))}  # fmt: skip
    if extra is not None:
        tags[338] = (3, extra)
    ifd, rest = struct.pack("<H", len(tags)), b""
    begin = 8 + len(pixels) + len(pixels) % 2
    after = begin + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(data) > 4:
            rest, data = rest + data, struct.pack("<I", after + len(rest))
        ifd += struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    pad = b"\0" * (len(pixels) % 2)
    path.write_bytes(b"II*\0" + struct.pack("<I", begin) + pixels + pad + ifd + b"\0" * 4 + rest)


@pytest.mark.parametrize(
    ("bands", "extra", "photometric"), [(4, (0,), 2), (4, None, 2), (5, (1, 0), 2), (8, (0,) * 5, 2), (4, (0,) * 3, 1)]
)
def test_more_than_three_channels_are_refused_in_words(tmp_path, bands, extra, photometric):
    tiff(tmp_path / "a.tif", bands, extra, photometric)
    with pytest.raises(DataError, match=rf"a\.tif has {bands} channels") as caught:
        read_image(tmp_path / "a.tif")
    assert "gdal_translate" in caught.value.fix


@pytest.mark.parametrize(("bands", "extra", "photometric"), [(3, None, 2), (4, (2,), 2), (1, None, 1)])
def test_three_channels_transparency_and_grey_are_photos(tmp_path, bands, extra, photometric):
    tiff(tmp_path / "a.tif", bands, extra, photometric)
    stored = np.arange(6 * bands, dtype=np.uint8).reshape(2, 3, bands)[:, :, :3]
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.broadcast_to(stored, (2, 3, 3)))


def test_heic_is_a_photo_as_it_is_shown(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    smooth = np.zeros((40, 64, 3), np.uint8)
    smooth[:, :32], smooth[:20, 32:] = (200, 40, 30), (20, 60, 220)
    Image.fromarray(smooth).save(tmp_path / "a.heic", quality=95, exif=exif(6).tobytes())  # the container turns it
    found = read_image(tmp_path / "a.heic")
    upright = np.rot90(smooth, -1)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 5


def test_a_mosaic_is_read_without_a_word_below_the_limit(tmp_path):
    """Pillow warns beyond MAX_IMAGE_PIXELS, and refuses twice as many. In a process of its own: pytest has warnings."""
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(tmp_path / "mosaic.png")
    code = """
from pathlib import Path
from PIL import Image
from semiseg_cli.core.data.photos import read_image
Image.MAX_IMAGE_PIXELS = 2000
print(read_image(Path("mosaic.png")).shape)
"""
    root = Path(semiseg_cli.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("(50, 60, 3)\n", "")


def test_a_mosaic_beyond_the_limit_is_refused_in_words(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(tmp_path / "mosaic.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"mosaic\.png is too large") as caught:
        read_image(tmp_path / "mosaic.png")
    assert "8192" in caught.value.fix


def test_a_line_is_no_picture(tmp_path):
    """A network sees no side as less than its stride, so that a long line would take the memory of a large picture."""
    Image.new("L", (2001, 2)).save(tmp_path / "line.png")
    with pytest.raises(DataError, match=r"line\.png is no picture"):
        read_image(tmp_path / "line.png")
    Image.new("L", (2000, 2)).save(tmp_path / "thin.png")
    assert read_image(tmp_path / "thin.png").shape == (2, 2000, 3)
