import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from semiseg_cli.core.data.imaging import orient, orientation
from semiseg_cli.core.data.photos import read_image

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


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_orient_only_moves_pixels(exif, height, width):
    stored = np.arange(height * width, dtype=np.int32).reshape(height, width)
    upright = orient(stored, exif)
    assert sorted(upright.ravel()) == sorted(stored.ravel())
    assert upright.shape == (stored.shape if exif < 5 else stored.shape[::-1])
