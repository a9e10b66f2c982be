"""Reading what people have as masks, of any orientation, mode and bit depth; and writing images.

Pillow reads, because OpenCV returns colours for a palette PNG. Photos are read by `photos.py`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semiseg_cli.core.data.photos import opened
from semiseg_cli.core.errors import DataError

COLOUR = 1 << 24  # set in the code of a mask pixel that is a colour, 0xRRGGBB in the bits below
_ORIENTATION = 0x0112  # EXIF tag


def read_mask(path: Path) -> NDArray[np.uint8]:
    """An index mask as uint8 HxW: the value of each pixel is its class (palette images: the index, not the colour).

    Raises DataError for colour masks, values above 255, lossy or unreadable files.
    """
    codes = read_codes(path)
    largest = int(codes.max())
    if largest & COLOUR:
        raise DataError(f"{path} is a colour mask", fix="give the colours: --classes FILE.json with names and palette")
    if largest > 255:
        raise DataError(f"{path} has mask values up to {largest}", why="a mask has 8-bit class indices")
    return codes.astype(np.uint8)


def read_codes(path: Path) -> NDArray[np.int32]:
    """The pixels of a mask as int32 HxW codes: the value, or `COLOUR | 0xRRGGBB` where the mask is in colour.

    A colour image whose channels are equal everywhere is an index mask saved as RGB. A mask's own EXIF is ignored.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO", "GIF") and image.mode != "P":
            why = "lossy compression smears labels"
            raise DataError(f"{path} is a {image.format} mask", why=why, fix="save it as PNG")
        if image.mode in ("1", "L", "P"):
            return np.array(image).astype(np.int32)
        if image.mode.startswith("I"):
            return _integers(image, path)
        if image.mode in ("LA", "PA"):
            return np.array(image)[:, :, 0].astype(np.int32)
        rgb = np.array(image.convert("RGB")).astype(np.int32)
    red, green, blue = rgb[:, :, 0], rgb[:, :, 1], rgb[:, :, 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return COLOUR | red << 16 | green << 8 | blue


def _integers(image: Image.Image, path: Path) -> NDArray[np.int32]:
    values = np.array(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path} has 32-bit pixels", fix="save it with 8 or 16 bits")
    return values


def orientation(path: Path) -> int:
    """EXIF orientation, 1 to 8 (1: stored upright)."""
    with opened(path) as image:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1


def orient(pixels: NDArray[np.int32], exif: int) -> NDArray[np.int32]:
    """Turn stored pixels HxW upright, as EXIF orientation 1 to 8 says."""
    if exif >= 5:
        pixels = pixels.T
    if exif in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if exif in (2, 3, 6, 7) else pixels


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write uint8 HxWx3 RGB or HxW as .png or .jpg (quality 95), and the folder it needs; returns the path."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    done, data = cv2.imencode(path.suffix, pixels[:, :, ::-1] if pixels.ndim == 3 else pixels, options)
    assert done, path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
    return path
