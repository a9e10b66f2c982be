"""Masks as their files hold them: values, indices into a palette, or colours, of any depth; nothing is decided here.

Pillow makes 2 and 4 bits as bright as 8, white of a 1 and 16-bit colour 8 bits deep: the first two are undone, the
last is refused, and so is whatever smears labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from semiseg_cli.core.data.georeference import tiff_tags
from semiseg_cli.core.data.photos import FREE, LARGEST, opened, pages
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.reading import read_bytes
from semiseg_cli.core.sources.codes import COLOUR, NOT_A_NUMBER, TRANSPARENT

GREY, PALETTE, COLOURS = "grey", "palette", "colour"  # kinds of masks
_WIDTH, _LENGTH = 256, 257  # tags
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLES = 0x0112, 258, 262, 339  # tags
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2  # their values
_PNG = "save it as PNG"
_LOSSY = f"{_PNG}; --unknown nearest takes colours of the classes file as the nearest class, also where they mix"


@dataclass(frozen=True)
class Raster:
    """A mask as its file holds it.

    pixels: HxW; values or indices as uint8, uint16, int32, float32 or float64, or where `packed` RGBA as int32, red
    lowest. scale: from a pixel to the value that is meant. palette: 256x4 RGBA, of indices. exif: the orientation that
    the file gives itself and that `pixels` have not. lossy: whether its compression smears labels.
    """

    kind: str
    pixels: NDArray[Any]
    packed: bool = False
    scale: float = 1.0
    palette: NDArray[np.uint8] | None = None
    exif: int = 1
    lossy: bool = False

    def values(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """The code of the value of each pixel; of a packed one its grey level, -inf where it has a hue."""
        if self.packed:
            grey = pixels & 255
            return np.where(grey * 0x010101 == pixels & 0xFFFFFF, grey, -math.inf)
        values = np.asarray(pixels, np.float64)
        return np.where(np.isnan(values), NOT_A_NUMBER, np.rint(values * self.scale) if self.scale != 1 else values)

    def colours(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """The code of the colour of each pixel as it is shown; -inf where it has none, being deeper than 8 bits."""
        if self.packed:
            return ((pixels & 255) << 16 | pixels & 0xFF00 | pixels >> 16 & 255).astype(np.float64) + COLOUR
        if pixels.dtype != np.uint8:
            return np.full(pixels.shape, -math.inf)
        rgba = np.repeat(pixels[..., None], 3, -1) if self.palette is None else self.palette[pixels]
        return rgba[..., :3] @ np.array([1 << 16, 1 << 8, 1], np.float64) + COLOUR

    def alpha(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """How opaque each pixel is; indices as their palette says."""
        if self.packed:
            return (pixels >> 24 & 255).astype(np.uint8)
        if self.palette is not None:
            return np.asarray(self.palette[pixels][..., 3])
        return np.full(pixels.shape, 255, np.uint8)


def read_raster(path: Path, lossy: bool = False) -> Raster:
    """A mask of any mode and depth that keeps labels whole, as stored. lossy: one that smears them is taken, too.

    Raises DataError for unreadable and lossy files, several pages, 16-bit colour and modes that are not for labels.
    """
    if (values := _doubles(path)) is not None:
        return Raster(GREY, values)
    with opened(path) as image:
        smeared = _whole(image, path, lossy)
        bits = _bits(image, path)
        exif = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)  # Pillow turns a TIFF itself
        own: dict[str, Any] = {"exif": exif if exif in range(1, 9) else 1, "lossy": smeared}
        if image.mode in ("RGB", "RGBA", "LA", "PA"):
            if bits > 8:
                raise DataError(f"{path} has 16 bits a channel", fix="save it as an 8-bit PNG")
            rgba = np.array(image.convert("RGBA"))
            kind = GREY if image.mode == "LA" else COLOURS
            return Raster(kind, rgba.view("<i4")[:, :, 0], packed=True, **own)
        if image.mode == "1":
            return Raster(GREY, np.array(image).astype(np.uint8) * np.uint8(255), scale=1 / 255, **own)
        if image.mode == "P":
            return Raster(PALETTE, np.array(image), palette=_palette(image), **own)
        if image.mode == "L":
            return Raster(GREY, _small(image), scale=_top(image, path, bits) / 255, **own)
        if image.mode == "F":
            return Raster(GREY, np.array(image), **own)
        if image.mode.startswith("I"):
            return Raster(GREY, _integers(image), scale=_top(image, path, 16) / 65535, **own)
        raise DataError(f"{path} has {image.mode} pixels, which are no labels", fix=_PNG)


def _doubles(path: Path) -> NDArray[Any] | None:
    """Floating-point values of 64 bits, of a TIFF, which Pillow does not know; None for any other file."""
    tags = tiff_tags(path) if path.suffix.lower() in (".tif", ".tiff") else None
    if not tags or tags.get(_BITS) not in (64, (64,)):
        return None
    sides = [tags.get(tag, 0) for tag in (_WIDTH, _LENGTH)]
    if not all(isinstance(side, int) for side in sides) or math.prod(sides) > FREE:
        return None
    try:
        values = cv2.imdecode(np.frombuffer(read_bytes(path, LARGEST), np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError):
        return None
    return None if values is None or values.ndim != 2 else np.asarray(values, np.float32)


def read_codes(path: Path) -> NDArray[Any]:
    """The codes of a benchmark's mask, HxW, which are known by themselves: RGB is colour, anything else is values."""
    raster = read_raster(path)
    pixels = raster.pixels
    if not raster.packed:
        return pixels if pixels.dtype == np.uint8 and raster.scale == 1 else raster.values(pixels)
    codes = raster.colours(pixels) if raster.kind == COLOURS else raster.values(pixels)
    return np.where(raster.alpha(pixels) == 0, float(TRANSPARENT), codes)


def _whole(image: Image.Image, path: Path, allowed: bool) -> bool:
    """Whether its compression smears labels. DataError where that is not allowed, or where it holds several masks."""
    lossy = image.format in ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF") or image.info.get("compression") == "jpeg"
    if image.format == "WEBP":
        lossy = _first(path, 64).find(b"VP8L") < 0
    if lossy and not allowed:
        what = f"{path} is a {image.format} mask"
        raise DataError(what, why="lossy compression smears labels", fix=_LOSSY)
    if (count := pages(image)) > 1:
        raise DataError(f"{path} has {count} pages", why="a mask is one picture", fix="save one page as PNG")
    return lossy


def _bits(image: Image.Image, path: Path) -> int:
    """Bits a channel as stored, where the file says so; else 8."""
    if image.format == "PNG":
        return _first(path, 25)[24]
    return int(_tag(image, _BITS) or 8)


def _top(image: Image.Image, path: Path, bits: int) -> int:
    """The largest value that the pixels had before Pillow stretched them to 8 bits, or to 16."""
    if image.format == "PPM":
        words = b" ".join(line.split(b"#")[0] for line in _first(path, 4096).split(b"\n")).split()
        return int(words[3])
    return 65535 if bits > 8 else int((1 << bits) - 1)


def _first(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _palette(image: Image.Image) -> NDArray[np.uint8]:
    colours = np.full((256, 4), 255, np.uint8)
    found = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    colours[: len(found), :3] = found
    clear = image.info.get("transparency")
    if isinstance(clear, bytes):
        colours[: len(clear), 3] = np.frombuffer(clear, np.uint8)[:256]
    elif isinstance(clear, int):
        colours[clear, 3] = 0
    return colours


def _small(image: Image.Image) -> NDArray[Any]:
    """Values of up to 8 bits; Pillow turns a TIFF's around where white is zero, and drops their sign."""
    values = np.array(image)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        return np.asarray(255 - values)
    return values.view(np.int8).astype(np.int32) if _tag(image, _SAMPLES) == _SIGNED else values


def _integers(image: Image.Image) -> NDArray[Any]:
    values = np.array(image)
    if values.dtype.itemsize == 2:
        return values.astype(np.uint16)
    unsigned = image.format == "TIFF" and _tag(image, _SAMPLES) in (None, _UNSIGNED)
    return values.view(np.uint32).astype(np.float64) if unsigned else values.astype(np.int32)


def _tag(image: Image.Image, tag: int) -> Any:
    """The first value of a tag of a TIFF; None where there is none."""
    value = image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value
