"""Masks as their files hold them: every depth and mode gives the values that were meant, and lossy ones are refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.codes import COLOUR, NOT_A_NUMBER, TRANSPARENT
from semiseg_cli.core.sources.rasters import COLOURS, GREY, PALETTE, read_codes, read_raster

INDEX = np.array([[0, 1, 2], [3, 255, 5]], np.uint8)


def png(path, rows, depth, kind, width):
    """A PNG of packed rows, by hand: Pillow writes no 2 and 4 bits and no 16-bit colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def tiff(path, values, sample_format, white_is_zero=False):
    """An uncompressed TIFF of one channel, by hand: every type of sample."""
    height, width = values.shape
    data = values.tobytes()
    tags = [
        (256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, 1 - white_is_zero), (273, 134),
        (277, 1), (278, height), (279, len(data)), (339, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes((b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(134, b"\0") + data)


def values(path):
    raster = read_raster(path)
    return raster.values(raster.pixels).tolist()


def palette_image():
    image = Image.fromarray(INDEX)
    image.putpalette([(7 * i + 3) % 256 for i in range(768)])
    return image


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        (GREY, Image.fromarray(INDEX)),
        (PALETTE, palette_image()),
        (GREY, Image.fromarray(INDEX.astype(np.uint16))),
        (COLOURS, Image.merge("RGB", [Image.fromarray(INDEX)] * 3)),
        (GREY, Image.merge("LA", [Image.fromarray(INDEX)] * 2)),
    ],
)
def test_values_of_a_png(tmp_path, kind, image):
    image.save(tmp_path / "m.png")
    assert read_raster(tmp_path / "m.png").kind == kind
    assert values(tmp_path / "m.png") == INDEX.tolist()


def test_few_bits_are_values(tmp_path):
    png(tmp_path / "1.png", [bytes([0b01100000])], 1, 0, 4)
    assert values(tmp_path / "1.png") == [[0, 1, 1, 0]]
    png(tmp_path / "2.png", [bytes([0b00011011])], 2, 0, 4)
    assert values(tmp_path / "2.png") == [[0, 1, 2, 3]]
    png(tmp_path / "4.png", [bytes([0x01, 0x2F])], 4, 0, 4)
    assert values(tmp_path / "4.png") == [[0, 1, 2, 15]]
    (tmp_path / "a.pgm").write_bytes(b"P5\n# by hand\n4 1\n5\n" + bytes([0, 1, 4, 5]))
    assert values(tmp_path / "a.pgm") == [[0, 1, 4, 5]]
    (tmp_path / "b.pgm").write_bytes(b"P5 3 1 1000\n" + struct.pack(">3H", 0, 7, 1000))
    assert values(tmp_path / "b.pgm") == [[0, 7, 1000]]


@pytest.mark.parametrize(
    ("kind", "sample_format", "given"),
    [
        ("u1", 1, [0, 1, 255]),
        ("i1", 2, [0, 1, -1]),
        ("u2", 1, [0, 1, 65535]),
        ("i2", 2, [0, 1, -1]),
        ("u4", 1, [0, 70000, 2**32 - 1]),
        ("i4", 2, [0, 70000, -9999]),
        ("f4", 3, [0, 0.5, -9999]),
        ("f8", 3, [0, 0.5, -9999]),
    ],
)
def test_values_of_a_tiff(tmp_path, kind, sample_format, given):
    tiff(tmp_path / "m.tif", np.array([given]).astype(kind), sample_format)
    assert values(tmp_path / "m.tif") == [given]


def test_what_is_no_number(tmp_path):
    tiff(tmp_path / "m.tif", np.array([[np.nan, 2]], np.float32), 3)
    assert values(tmp_path / "m.tif") == [[NOT_A_NUMBER, 2]]


def test_values_where_white_is_zero(tmp_path):
    tiff(tmp_path / "m.tif", np.array([[0, 1, 254]], np.uint8), 1, white_is_zero=True)
    assert values(tmp_path / "m.tif") == [[0, 1, 254]]


def test_colours_and_transparency(tmp_path):
    pixels = np.array([[[128, 0, 64, 255], [1, 2, 3, 0], [9, 9, 9, 7]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    raster = read_raster(tmp_path / "m.png")
    assert raster.colours(raster.pixels).tolist() == [[COLOUR + 0x800040, COLOUR + 0x010203, COLOUR + 0x090909]]
    assert raster.values(raster.pixels).tolist() == [[-np.inf, -np.inf, 9]]
    assert raster.alpha(raster.pixels).tolist() == [[255, 0, 7]]
    assert read_codes(tmp_path / "m.png").tolist() == [[COLOUR + 0x800040, TRANSPARENT, COLOUR + 0x090909]]


def test_the_colours_of_a_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 64])
    image.save(tmp_path / "m.png", transparency=0)
    raster = read_raster(tmp_path / "m.png")
    assert raster.colours(raster.pixels).tolist() == [[COLOUR, COLOUR + 0x800040, COLOUR + 0x800040]]
    assert raster.alpha(raster.pixels).tolist() == [[0, 255, 255]]
    assert read_codes(tmp_path / "m.png").tolist() == [[0, 1, 1]]


RGB = np.repeat(INDEX[:, :, None], 3, 2)


def test_lossy_masks_are_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "m.jpg")
    Image.fromarray(RGB).save(tmp_path / "m.webp")
    Image.fromarray(RGB).save(tmp_path / "m.tif", compression="jpeg")
    for name in ("m.jpg", "m.webp", "m.tif"):
        with pytest.raises(DataError, match="mask") as caught:
            read_raster(tmp_path / name)
        assert "smears labels" in caught.value.why
    Image.fromarray(RGB).save(tmp_path / "m.webp", lossless=True)
    assert values(tmp_path / "m.webp") == INDEX.tolist()


def test_deep_colour_and_print_colour_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), RGB.astype(np.uint16))
    with pytest.raises(DataError, match="16 bits a channel"):
        read_raster(tmp_path / "deep.png")
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "print.tif")
    with pytest.raises(DataError, match="CMYK"):
        read_raster(tmp_path / "print.tif")


def test_pages_are_refused_and_overviews_are_none(tmp_path):
    mask, small = Image.fromarray(INDEX), Image.fromarray(INDEX[:1])
    mask.save(tmp_path / "m.tif", save_all=True, append_images=[small])
    assert values(tmp_path / "m.tif") == INDEX.tolist()
    mask.save(tmp_path / "m.tif", save_all=True, append_images=[mask])
    with pytest.raises(DataError, match="2 pages"):
        read_raster(tmp_path / "m.tif")
