"""What is wrong with one image and its mask on disk, and which pictures are there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from semiseg_cli.core.data.decode import decode_mask
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.data.shards import member
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, counted

THUMB = 16  # a side of what pictures are compared by
AWAY, NEAR = 8.0, 2.0  # levels of 255


@dataclass(frozen=True, eq=False)
class Look:
    """A record and what its files hold: a digest of the decoded image, pixels of every class, and pixels ignored.

    `problems` are (what, detail); a digest is empty and the pixels are () where a file could not be read. thumb: the
    image as THUMB x THUMB means of grey, flat.
    """

    record: Record
    digest: bytes
    pixels: tuple[int, ...]
    ignored: int
    problems: tuple[tuple[str, str], ...]
    thumb: NDArray[np.float32] | None = None


def look(record: Record, dataset: Dataset) -> Look:
    """Read both files to their ends and compare them with the index and with each other.

    The image is read by Pillow, since OpenCV, which reads it in training, returns half a picture for a cut file.
    """
    problems = list[tuple[str, str]]()
    digest, pixels, ignored = b"", tuple[int, ...](), 0
    thumb: NDArray[np.float32] | None = None
    size = f"{record.width}x{record.height}"
    try:
        image = read_image(record.image)
        if record.bytes and not member(record.image) and (now := record.image.stat().st_size) != record.bytes:
            problems.append(("photo that is not the one that was indexed", f"{now:,} bytes: {record.image}"))
        digest = hashlib.blake2b(image.tobytes(), digest_size=16, person=f"{image.shape}".encode()[:16]).digest()
        thumb = _thumb(image)
        if image.shape[:2] != (record.height, record.width):
            problems.append(("image of another size than in the index", f"{_size(image)}, not {size}: {record.image}"))
    except (DataError, OSError) as error:
        problems.append(("unreadable image", _reason(error)))
    if record.mask is None:
        return Look(record, digest, pixels, ignored, tuple(problems), thumb)
    try:
        mask = decode_mask(record.mask)
    except (DataError, OSError) as error:
        return Look(record, digest, pixels, ignored, (*problems, ("unreadable mask", _reason(error))), thumb)
    if mask.shape != (record.height, record.width):
        problems.append(("mask of another size than its image", f"{_size(mask)}, not {size}: {record.mask}"))
    counts = np.bincount(mask.ravel(), minlength=256)
    pixels = tuple(counts[: len(dataset.classes)].tolist())
    ignored = int(counts[dataset.ignore]) if dataset.ignore >= len(dataset.classes) else 0
    strange = [value for value in np.flatnonzero(counts).tolist() if value >= len(pixels) and value != dataset.ignore]
    if strange:
        values = ", ".join(f"{value} ({counted(int(counts[value]), 'pixel')})" for value in strange[:5])
        problems.append(("mask with values that are no class", f"{values}: {record.mask}"))
    elif record.pixels and record.pixels != pixels:
        problems.append(("mask changed since it was prepared", str(record.mask)))
    return Look(record, digest, pixels, ignored, tuple(problems), thumb)


def same_pictures(looks: Iterable[Look]) -> list[list[Record]]:
    """Records with exactly the same pixels, in groups of two and more."""
    groups: dict[bytes, list[Record]] = {}
    for each in looks:
        if each.digest:
            groups.setdefault(each.digest, []).append(each.record)
    return [group for group in groups.values() if len(group) > 1]


def similar_pictures(train: Sequence[Look], val: Sequence[Look]) -> list[tuple[Record, Record]]:
    """Pairs of a training and a validation picture that are likely one photo in two encodings or sizes.

    Every one of their means agrees within AWAY levels, and on average within NEAR: coding moves a mean over a
    256th of a photo by less, another frame of a film moves the means where something moved by more. Pictures that
    show nothing are left out, and so are equal ones, which `same_pictures` finds.
    """
    ours, theirs = ([each for each in looks if _shows_something(each)] for looks in (train, val))
    if not ours or not theirs:
        return []
    means_T, means_V = (np.stack([each.thumb for each in looks if each.thumb is not None]) for looks in (ours, theirs))
    near = cKDTree(means_T).query_ball_point(means_V, AWAY, p=np.inf)
    pairs = [(ours[t], theirs[v], np.abs(means_T[t] - means_V[v]).mean()) for v, some in enumerate(near) for t in some]
    return [
        (a.record, b.record)
        for a, b, away in sorted(pairs, key=lambda pair: float(pair[2]))
        if away <= NEAR and a.digest != b.digest and _same_shape(a.record, b.record)
    ]


def _shows_something(each: Look) -> bool:
    return each.thumb is not None and float(each.thumb.std()) > 2 * AWAY


def _same_shape(a: Record, b: Record) -> bool:
    """Whether one may be the other reduced: sides in the same proportion, but for the rounding to pixels."""
    slack = 0.5 * (max(a.height, a.width) + max(b.height, b.width))
    return abs(a.height * b.width - a.width * b.height) <= max(slack, 0.01 * a.height * b.width)


def _thumb(image_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = image_HW3.mean(2, dtype=np.float32)
    return np.asarray(cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.float32).ravel()


def histogram(looks: Sequence[Look], classes: int) -> tuple[list[int], list[int]]:
    """Images that show every class, and its pixels in all of them."""
    seen = [each.pixels for each in looks if each.pixels]
    return [sum(p[k] > 0 for p in seen) for k in range(classes)], [sum(p[k] for p in seen) for k in range(classes)]


def _size(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _reason(error: DataError | OSError) -> str:
    what = error.what if isinstance(error, DataError) else str(error)
    why = error.why if isinstance(error, DataError) else ""
    return f"{what} ({why})" if why else what
