"""Turning stored pixels upright, and writing images. `photos.py` reads photos, `core/sources/rasters.py` masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.photos import opened
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import whole

_ORIENTATION = 0x0112  # EXIF tag
JPEG_SIDE = 65_500  # pixels, of OpenCV's and libjpeg's


def orientation(path: Path) -> int:
    """EXIF orientation, 1 to 8 (1: stored upright)."""
    with opened(path) as image:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1


def orient(pixels: NDArray[Any], exif: int) -> NDArray[Any]:
    """Turn stored pixels HxW upright, as EXIF orientation 1 to 8 says."""
    if exif >= 5:
        pixels = pixels.T
    if exif in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if exif in (2, 3, 6, 7) else pixels


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write uint8 HxWx3 RGB or HxW as .png or .jpg (quality 95), whole or not at all, in the folder it needs.

    Returns the path.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    if path.suffix == ".jpg" and max(pixels.shape[:2]) > JPEG_SIDE:
        what = f"{path} would have {pixels.shape[1]}x{pixels.shape[0]} pixels, a JPEG has at most {JPEG_SIDE:,} a side"
        raise DataError(what, fix="cut the image into tiles, or without tinted images: --no-overlay")
    done, data = cv2.imencode(path.suffix, pixels[:, :, ::-1] if pixels.ndim == 3 else pixels, options)
    assert done, path
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as new:
        new.write_bytes(data.tobytes())
    return path
