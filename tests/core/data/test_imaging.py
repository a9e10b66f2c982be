import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from semiseg_cli.core.data.imaging import COLOUR, orient, orientation, read_codes, read_mask
from semiseg_cli.core.data.photos import read_image
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
