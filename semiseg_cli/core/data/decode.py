"""Fast decoding of prepared files, and one cache of decoded pixels that all loader processes share."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from semiseg_cli.core.data.photos import LARGEST, believe, read_image, reduced, reduced_size
from semiseg_cli.core.data.shards import content, member
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import BadFile, DataError, SemisegError
from semiseg_cli.core.reading import read_bytes

Array = np.ndarray[Any, np.dtype[np.uint8]]
Size = tuple[int, int]  # height and width

JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FIX = "replace the file, or prepare the dataset again"


def decode_record(record: Record) -> Array:
    """The image of a record, as `decode_image`. Raises DataError for a file that is no longer the one of the index."""
    return decode_image(record.image, (record.height, record.width), record.bytes)


def decode_image(path: Path, size: Size | None = None, length: int = 0) -> Array:
    """An 8-bit image as uint8 HxWx3 RGB. Raises DataError naming the file when it cannot be decoded to its end.

    size, length: height and width, and the file's bytes, as the index says; a file of others is not decoded.
    """
    return np.asarray(_decode(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, size, length), np.uint8)


def decode_mask(path: Path, size: Size | None = None) -> Array:
    """An 8-bit index PNG, as `prepare` writes them, as uint8 HxW. Raises DataError naming the file."""
    mask = _decode(path, cv2.IMREAD_UNCHANGED, size)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise BadFile(f"{path} is not an 8-bit index mask", fix=FIX)
    return np.asarray(mask, np.uint8)


def read(path: Path, length: int = 0) -> bytes:
    """The bytes of an image's file, or of the image in a shard. BadFile where they are not there, or not so many."""
    try:
        data = content(photo, length) if (photo := member(path)) else read_bytes(path, LARGEST)
    except SemisegError:
        raise
    except (OSError, ValueError) as error:
        why = "the file does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise BadFile(f"cannot read {path}", why=why, fix=FIX) from None
    if length not in (0, len(data)):
        raise BadFile(
            f"{path} is not the photo that was indexed",
            why=f"it has {len(data):,} bytes, and had {length:,}",
            fix=FIX,
        )
    return data


def _decode(path: Path, flags: int, size: Size | None, length: int = 0) -> np.ndarray[Any, Any]:
    data = read(path, length)
    if data.startswith(JPEG) and not data.endswith(JPEG_END):  # OpenCV would fill up with grey what is not there
        try:
            read_image(path)  # as `prepare` does: some cameras write more behind a picture that is whole
        except DataError as error:
            raise BadFile(f"{path} ends before its picture does", why=error.why, fix=FIX) from error
    pixels = None
    try:
        _fitting(path, data, size)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, OSError, ValueError, cv2.error) as error:
        if isinstance(error, DataError):
            raise
    if pixels is None:
        raise BadFile(f"cannot read {path}", why="it is damaged or not an image", fix=FIX)
    return pixels


def _fitting(path: Path, data: bytes, size: Size | None) -> None:
    """Raise BadFile for an image whose header says another size, or one that so few bytes cannot hold."""
    with Image.open(BytesIO(data)) as image:
        width, height = image.size
        if size is None:
            believe(image, len(data), path)
        elif size != (height, width):
            raise BadFile(
                f"{path} is {width}x{height} pixels, the dataset's index says {size[1]}x{size[0]}",
                why="the file changed after it was prepared, or image and mask differ in size",
                fix=FIX,
            )


class Pixels:
    """Decoded images and masks of some records, read through a cache in anonymous shared memory.

    The cache is one block that forked loader processes share, so an image is decoded once per run and held once,
    whatever the number of workers. Records that do not fit into `limit_bytes` are decoded every time.
    long_side: larger images are reduced to it, masks to the nearest pixel; 0: they are as they are.
    """

    def __init__(self, records: Sequence[Record], limit_bytes: int, long_side: int = 0) -> None:
        self.records, self.limit_bytes, self.long_side = Records.of(records), limit_bytes, long_side
        sizes = [reduced_size(height, width, long_side) for height, width in self.records.sizes.tolist()]
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)  # as they are decoded, for each of `records.sizes`
        self.ends = self._fitting()
        held = int(self.ends[-1]) if len(self.ends) else 0
        self.block = mmap.mmap(-1, held) if held else None  # starts with one "filled" byte per record

    def _fitting(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where in the block each of the first records ends, as many as fit into it."""
        end, found = len(self.records), list[np.ndarray[Any, np.dtype[np.int64]]]()
        for place, shapes in self.records.shapes():
            channels = np.where(self.records.have_masks(np.arange(place, place + len(shapes))), 4, 3)
            ends = end + np.cumsum(self._sizes[shapes].prod(1) * channels)
            found.append(ends[ends <= self.limit_bytes])
            if len(found[-1]) < len(shapes):
                break
            end = int(ends[-1])
        return np.concatenate(found or [np.zeros(0, np.int64)])

    def shape(self, index: int) -> Size:
        """Height and width of a decoded record."""
        height, width = self._sizes[self.records.shape(index)].tolist()
        return height, width

    def __reduce__(self) -> tuple[type[Pixels], tuple[Sequence[Record], int, int]]:
        """A spawned process cannot inherit the block: it starts its own."""
        return Pixels, (self.records, self.limit_bytes, self.long_side)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Array, Array | None]:
        record = self.records[index]
        if self.block is None or not index < len(self.ends):
            return self._decode(record)
        shape = self.shape(index)
        block, area = np.frombuffer(self.block, np.uint8), shape[0] * shape[1]
        end = int(self.ends[index])
        held = block[end - area * (4 if record.mask else 3) : end]
        if not block[index]:
            image, mask = self._decode(record)
            held[: 3 * area] = image.reshape(-1)
            if mask is not None:
                held[3 * area :] = mask.reshape(-1)
            block[index] = 1  # last, so that no other process reads a half-filled place
        return held[: 3 * area].reshape(*shape, 3), held[3 * area :].reshape(shape) if record.mask else None

    def _decode(self, record: Record) -> tuple[Array, Array | None]:
        image = decode_record(record)
        mask = decode_mask(record.mask, (record.height, record.width)) if record.mask else None
        small = reduced(image, self.long_side)
        if mask is not None and mask.shape != small.shape[:2]:
            mask = np.asarray(cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        return small, mask
