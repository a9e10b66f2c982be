import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from semiseg_cli.core.data.imaging import (
    COLOUR,
    image_size,
    is_plain,
    orient,
    orientation,
    read_codes,
    read_image,
    read_mask,
    write_image,
)
from semiseg_cli.core.errors import DataError

PHOTO = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def exif(orientation):
    table = Image.Exif()
    table[0x0112] = orientation
    return table


@pytest.mark.parametrize("orientation_", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_read_image_is_upright(tmp_path, orientation_, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PHOTO).save(path, exif=exif(orientation_), quality=100, subsampling=0)
    with Image.open(path) as image:
        stored = np.array(image) if suffix == "jpg" else PHOTO  # Pillow turns a TIFF while it loads
        upright = np.array(ImageOps.exif_transpose(image))
    assert orientation(path) == orientation_
    assert np.array_equal(read_image(path), upright)
    assert np.array_equal(orient(stored[:, :, 0].astype(np.int32), orientation_), upright[:, :, 0])


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


INDEX = np.array([[0, 1, 2], [3, 255, 5]], np.uint8)


def palette_image():
    image = Image.fromarray(INDEX)
    image.putpalette([(7 * i + 3) % 256 for i in range(768)])
    return image


MASKS = {
    "grey": lambda: Image.fromarray(INDEX),
    "palette": palette_image,
    "16 bit": lambda: Image.fromarray(INDEX.astype(np.uint16)),
    "grey saved as colour": lambda: Image.merge("RGB", [Image.fromarray(INDEX)] * 3),
    "grey with alpha": lambda: Image.merge("LA", [Image.fromarray(INDEX)] * 2),
}


@pytest.mark.parametrize("mode", MASKS)
def test_read_mask_gives_indices(tmp_path, mode):
    MASKS[mode]().save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, INDEX)


def test_bilevel_mask_is_zero_and_one(tmp_path):
    Image.fromarray(INDEX > 2).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), INDEX > 2)


def test_colour_masks_have_colour_codes_and_are_no_index_masks(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[[128, 0, 64], [1, 2, 3]]], np.uint8)).save(path)
    assert read_codes(path).tolist() == [[COLOUR + 0x800040, COLOUR + 0x010203]]
    with pytest.raises(DataError, match="colour mask"):
        read_mask(path)


def test_lossy_and_large_valued_masks_are_refused(tmp_path):
    Image.fromarray(INDEX).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match="JPEG"):
        read_mask(tmp_path / "m.jpg")
    Image.fromarray(INDEX.astype(np.uint16) * 3).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="765"):
        read_mask(tmp_path / "m.png")


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_orient_only_moves_pixels(exif, height, width):
    stored = np.arange(height * width, dtype=np.int32).reshape(height, width)
    upright = orient(stored, exif)
    assert sorted(upright.ravel()) == sorted(stored.ravel())
    assert upright.shape == (stored.shape if exif < 5 else stored.shape[::-1])


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
