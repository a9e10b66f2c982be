"""Fast decoding of prepared files, and one cache of decoded pixels that all loader processes share."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.data.photos import read_image, reduced, reduced_size
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import BadFile, DataError

Array = np.ndarray[Any, np.dtype[np.uint8]]

JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FIX = "replace the file, or prepare the dataset again"


def decode_image(path: Path) -> Array:
    """An 8-bit image as uint8 HxWx3 RGB. Raises DataError naming the file when it cannot be decoded to its end."""
    return np.asarray(_decode(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION), np.uint8)


def decode_mask(path: Path) -> Array:
    """An 8-bit index PNG, as `prepare` writes them, as uint8 HxW. Raises DataError naming the file."""
    mask = _decode(path, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise BadFile(f"{path} is not an 8-bit index mask", fix=FIX)
    return np.asarray(mask, np.uint8)


def _decode(path: Path, flags: int) -> np.ndarray[Any, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        why = "the file does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise BadFile(f"cannot read {path}", why=why, fix=FIX) from None
    if data.startswith(JPEG) and not data.endswith(JPEG_END):  # OpenCV would fill up with grey what is not there
        try:
            read_image(path)  # as `prepare` does: some cameras write more behind a picture that is whole
        except DataError as error:
            raise BadFile(f"{path} ends before its picture does", why=error.why, fix=FIX) from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if pixels is None:
        raise BadFile(f"cannot read {path}", why="it is damaged or not an image", fix=FIX)
    return pixels


class Pixels:
    """Decoded images and masks of some records, read through a cache in anonymous shared memory.

    The cache is one block that forked loader processes share, so an image is decoded once per run and held once,
    whatever the number of workers. Records that do not fit into `limit_bytes` are decoded every time.
    long_side: larger images are reduced to it, masks to the nearest pixel; 0: they are as they are.
    """

    def __init__(self, records: Sequence[Record], limit_bytes: int, long_side: int = 0) -> None:
        self.records, self.limit_bytes, self.long_side = tuple(records), limit_bytes, long_side
        self.shapes = [reduced_size(r.height, r.width, long_side) for r in self.records]
        channels = [4 if r.mask else 3 for r in self.records]
        sizes = np.array([h * w * c for (h, w), c in zip(self.shapes, channels, strict=True)], np.int64)
        ends = np.cumsum(sizes) + len(sizes)
        self.fits = ends <= limit_bytes
        self.starts = ends - sizes
        held = int(ends[self.fits][-1]) if self.fits.any() else 0
        self.block = mmap.mmap(-1, held) if held else None  # starts with one "filled" byte per record

    def __reduce__(self) -> tuple[type[Pixels], tuple[Sequence[Record], int, int]]:
        """A spawned process cannot inherit the block: it starts its own."""
        return Pixels, (self.records, self.limit_bytes, self.long_side)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Array, Array | None]:
        record = self.records[index]
        if self.block is None or not self.fits[index]:
            return self._decode(record)
        shape = self.shapes[index]
        block, area = np.frombuffer(self.block, np.uint8), shape[0] * shape[1]
        start = int(self.starts[index])
        held = block[start : start + area * (4 if record.mask else 3)]
        if not block[index]:
            image, mask = self._decode(record)
            held[: 3 * area] = image.reshape(-1)
            if mask is not None:
                held[3 * area :] = mask.reshape(-1)
            block[index] = 1  # last, so that no other process reads a half-filled place
        return held[: 3 * area].reshape(*shape, 3), held[3 * area :].reshape(shape) if record.mask else None

    def _decode(self, record: Record) -> tuple[Array, Array | None]:
        image = decode_image(record.image)
        mask = decode_mask(record.mask) if record.mask else None
        for path, found in ((record.image, image.shape[:2]), (record.mask, None if mask is None else mask.shape)):
            if found is not None and found != (record.height, record.width):
                raise BadFile(
                    f"{path} is {found[1]}x{found[0]} pixels, expected {record.width}x{record.height}",
                    why="the file changed after it was prepared, or image and mask differ in size",
                    fix=FIX,
                )
        small = reduced(image, self.long_side)
        if mask is not None and mask.shape != small.shape[:2]:
            mask = np.asarray(cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        return small, mask
