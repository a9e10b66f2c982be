"""Reading what people have as photos, of any orientation, mode and bit depth, and reducing them for a network.

Used by whatever shows photos to a network, `prepare` and `load` included, so that a photo looks the same to all of
them. Pillow reads, because OpenCV returns half a picture for a truncated JPEG. Needs NumPy and Pillow alone, but for
16-bit colour (OpenCV) and telephones' HEIC (pillow-heif): `load` works where nothing else is installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from semiseg_cli.core.data.depths import FULL, Levels, is_deep, to_bytes
from semiseg_cli.core.data.georeference import tiff_tags
from semiseg_cli.core.data.listing import AVIF, HEIF
from semiseg_cli.core.data.shards import content, member
from semiseg_cli.core.errors import DataError, SemisegError
from semiseg_cli.core.reading import instead, regular

_ORIENTATION = 0x0112  # EXIF tag
_SUBFILE = 254  # TIFF tag: what a page is
LARGEST = 1 << 32  # bytes of an image file
# Pixels that are always believed, and more for each byte. A JPEG needs 1 bit for each block of 64 in each channel, so
# that one colour is 340 pixels a byte; deflate holds 1032 bytes in one, of 8 pixels each; a flat GIF has 1365.
LINE = 1000  # a long side over the short one above which nothing is a picture
FREE, EACH = 16 << 20, 8 * 1032
HELD = {"JPEG": (1 << 20, 1000), "MPO": (1 << 20, 1000), "GIF": (1 << 20, 1400)}
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # from half of what is refused on
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # a history of edits, or a profile, has more than 1 MiB


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, or one in a shard; whatever goes wrong while it is open becomes a DataError that names it."""
    if path.suffix.lower() in HEIF | AVIF:
        _register_heif(path)
    try:
        photo = member(path)
        file = BytesIO(content(photo)) if photo else path
        length = file.getbuffer().nbytes if isinstance(file, BytesIO) else regular(path, LARGEST).st_size
        with Image.open(file) as image:
            believe(image, length, path)
            yield image
    except (SemisegError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        why = _no_image(path) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image", why=why) from error


def _no_image(path: Path) -> str:
    """What a file is that is no image, where its beginning tells."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError:
        return ""
    return instead(head)


def believe(image: Image.Image, length: int, path: Path) -> None:
    """Raise DataError for an image that says it has more pixels than `length` bytes of its kind can hold, or is a line.

    Of the first a decoder would fill up the rest, and take memory for all; of the second a network would, which sees
    no side as less than its stride.
    """
    short, long = sorted((image.width, image.height))
    if long > LINE * short:
        why = f"{image.width}x{image.height} pixels: one side is more than {LINE:,} times the other"
        raise DataError(f"{path} is no picture", why=why, fix="leave it out")
    free, each = HELD.get(image.format or "", (FREE, EACH))
    if image.width * image.height > free + each * length:
        size = f"{image.width}x{image.height} pixels"
        raise DataError(f"{path} is damaged", why=f"it says it has {size}, which its {length:,} bytes cannot hold")


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        if path.suffix.lower() in HEIF:
            raise DataError(f"{path} cannot be read here", fix="pip install pillow-heif") from error
    else:
        pillow_heif.register_heif_opener()


def _too_large(path: Path) -> DataError:
    millions = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return DataError(
        f"{path} is too large to be read as a whole: more than {millions:.0f} million pixels",
        fix=f"cut it into tiles: gdal_retile.py -ps 8192 8192 -targetDir tiles {path.name}, "
        f"or: magick {path.name} -crop 8192x8192 +repage tile-%04d.png",
    )


def read_image(path: Path, levels: Levels = FULL) -> NDArray[np.uint8]:
    """An image as uint8 HxWx3 RGB, upright by its EXIF orientation; see `rgb_of`.

    levels: what becomes of 16 bits a channel. Of several frames the first counts. Raises DataError for an unreadable
    or truncated file, and for one of more pixels than Pillow takes (179 million).
    """
    if tags := tiff_tags(path):
        _three_channels(tags, str(path))  # before Pillow, which knows few kinds of these files
    with opened(path) as image:
        if levels == FULL or image.mode.startswith("I") or not is_deep(path):
            return rgb_of(image, str(path), levels)
    return to_bytes(_deep_colour(path), levels)


def rgb_of(image: Image.Image, name: str, levels: Levels = FULL) -> NDArray[np.uint8]:
    """The same of an open image; of 16-bit colour Pillow knows the upper bytes alone. `name`: what messages call it.

    Grey is repeated, transparency dropped, a palette or CMYK converted. Raises DataError for floating-point pixels and
    for more than three channels.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _three_channels(image.tag_v2, name)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return np.repeat(to_bytes(_grey(upright, name), levels)[:, :, None], 3, axis=2)
    if upright.mode == "F":
        raise DataError(f"{name} has floating-point pixels", fix="save it with 8 or 16 bits a channel")
    return np.array(upright.convert("RGB"))


def read_deep(path: Path) -> NDArray[Any]:
    """The values of an image of 16 bits a channel, HxW or HxWx3, upright."""
    with opened(path) as image:
        if image.mode.startswith("I"):
            return _grey(ImageOps.exif_transpose(image), str(path))
    return _deep_colour(path)


def _grey(image: Image.Image, name: str) -> NDArray[np.int32]:
    values = np.array(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{name} has 32-bit pixels", fix="save it with 8 or 16 bits")
    return values


def _deep_colour(path: Path) -> NDArray[np.uint16]:
    """16-bit colour by OpenCV, turned as Pillow turns it: the upper bytes, which both know, tell how."""
    import cv2  # not where `load` needs nothing else

    upper_HW3 = read_image(path)
    try:
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        read = None
    if read is not None and read.ndim == 3 and read.dtype == np.uint16:
        stored = np.asarray(read[:, :, 2::-1], np.uint16)
        for flat in (stored, stored.transpose(1, 0, 2)):
            for values in (flat, flat[::-1], flat[:, ::-1], flat[::-1, ::-1]):
                if np.array_equal(values >> 8, upper_HW3):
                    return values
    raise DataError(f"{path} has 16-bit colour that cannot be read", fix="save it as a 16-bit PNG")


def _three_channels(tags: Mapping[int, Any], name: str) -> None:
    """DataError where a TIFF has channels beside grey or red, green, blue and one that is declared transparency."""
    channels, kind, extra = (tags.get(tag, default) for tag, default in ((277, 1), (262, 1), (338, ())))
    alpha = len(extra) == 1 and extra[0] in (1, 2)
    if kind in (0, 1, 2) and channels - alpha > (3 if kind == 2 else 1):
        rest = f"{channels} channels" if kind == 2 else f"{channels} channels of grey"
        raise DataError(
            f"{name} has {rest}; an image here has three, red, green and blue, or one",
            why="a network from photos has no place for others, such as infrared",
            fix=f"choose three: gdal_translate -b 1 -b 2 -b 3 {Path(name).name} rgb.tif",
        )


def as_rgb(image: Any, levels: Levels = FULL) -> NDArray[np.uint8]:
    """uint8 HxWx3 RGB of an image file's path, a Pillow image, or such an array. ValueError for another array."""
    if isinstance(image, str | Path):
        return read_image(Path(image), levels)
    if isinstance(image, Image.Image):
        return rgb_of(image, "the image", levels)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"an image is uint8 (height, width, 3), not {array.dtype} {array.shape}")
    return array


def pages(image: Image.Image) -> int:
    """How many pictures an open image file holds, without overviews and transparency. It shows the first again."""
    size, count = image.size, 1
    for page in range(1, getattr(image, "n_frames", 1)):
        image.seek(page)
        part = getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & 5  # a reduced copy, or what is transparent
        count += image.size == size and not part
    if image.tell():
        image.seek(0)
    return count


def image_size(path: Path) -> tuple[int, int]:
    """Height and width as stored, from the header. DataError for a file that is unreadable or not whole.

    A JPEG or PNG that ends as they must end is whole; any other file is decoded to find out.
    """
    with opened(path) as image:
        width, height = image.size
        end = _ENDS.get(image.format or "")
    if end:
        with path.open("rb") as file:
            file.seek(-len(end), 2)
            if file.read() == end:
                return height, width
    read_image(path)
    return height, width


def is_plain(path: Path) -> bool:
    """Whether every decoder gives the same for this file: an upright 8-bit RGB or grey JPEG or PNG."""
    with opened(path) as image:
        if image.mode not in ("RGB", "L") or image.format not in ("JPEG", "PNG") or "transparency" in image.info:
            return False
        if image.format == "PNG":
            with path.open("rb") as file:
                if file.read(25)[24] != 8:  # see `is_deep`
                    return False
        return image.getexif().get(_ORIENTATION, 1) not in range(2, 9)


def reduced_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Height and width of an image whose long side is at most `long_side` pixels; 0: as it is."""
    longest = max(height, width)
    if not long_side or longest <= long_side:
        return height, width
    scale = long_side / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def reduced(image_HW3: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """An image reduced to a long side of `long_side` pixels, each the mean of the area it covers; 0: as it is."""
    height, width = reduced_size(image_HW3.shape[0], image_HW3.shape[1], long_side)
    if (height, width) == image_HW3.shape[:2]:
        return image_HW3
    rows_hW3 = _means(image_HW3.reshape(len(image_HW3), -1), height).reshape(height, -1, 3)
    both_wh3 = _means(rows_hW3.transpose(1, 0, 2).reshape(-1, height * 3), width).reshape(width, height, 3)
    return np.ascontiguousarray(np.rint(both_wh3).astype(np.uint8).transpose(1, 0, 2))


def _means(x_NM: NDArray[Any], count: int) -> NDArray[np.float32]:
    """(count, M): means of equal parts of the first axis, whose borders may cut through an entry."""
    borders = np.arange(count + 1) * (len(x_NM) / count)
    first = borders[:-1].astype(int)
    last = np.ceil(borders[1:] - 1e-9).astype(int)
    out = np.empty((count, x_NM.shape[1]), np.float32)
    for part, (begin, end) in enumerate(zip(first, last, strict=True)):
        place = np.arange(begin, end)
        inside = np.minimum(place + 1, borders[part + 1]) - np.maximum(place, borders[part])
        np.matmul((inside / inside.sum()).astype(np.float32), x_NM[begin:end].astype(np.float32), out=out[part])
    return out
