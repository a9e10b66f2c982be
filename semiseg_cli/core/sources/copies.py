"""Working copies: every image at most so large, upright and 8-bit; every mask an index PNG of the same size.

All that is wrong with somebody's files is collected, so that one run names them all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.imaging import orient, orientation, read_codes, write_image
from semiseg_cli.core.data.photos import is_plain, read_image, reduced
from semiseg_cli.core.data.spec import IGNORE, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.classes import Classes, LabelMap, code_name


@dataclass(frozen=True)
class Source:
    """An image of the user's, its mask if it has one, and its id in the dataset."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Copy:
    """A working copy, and a digest of its pixels that tells equal pictures."""

    record: Record
    digest: bytes


@dataclass(frozen=True)
class Refusal:
    """What is wrong with a file. `codes` are mask pixels that mean nothing, by code."""

    kind: str  # unreadable | sizes | values
    text: str
    codes: Mapping[int, int] = field(default_factory=dict)


def copy(source: Source, folder: Path, label_map: LabelMap, long_side: int) -> Copy | Refusal:
    """Write the working copy of an image, and of its mask, below `folder`.

    long_side: largest side in pixels; larger images are reduced; 0: none is. A file that needs no change is copied
    byte for byte.
    """
    try:
        image = read_image(source.image)
        height, width = image.shape[:2]
        small = reduced(image, long_side)
        size = (small.shape[1], small.shape[0])
        mask_file: Path | None = None
        pixels: tuple[int, ...] = ()
        if source.mask:
            codes = _upright(read_codes(source.mask), source.image, (height, width))
            if codes.shape != (height, width):
                text = f"{source.image} is {width}x{height}, {source.mask} {codes.shape[1]}x{codes.shape[0]}"
                return Refusal("sizes", text)
            codes = np.asarray(cv2.resize(codes, size, interpolation=cv2.INTER_NEAREST), np.int32)
            mask, strange = label_map(codes)
            if strange:
                return Refusal("values", f"{source.mask}: {', '.join(map(code_name, list(strange)[:8]))}", strange)
            mask_file = write_image(folder / "masks" / f"{source.id}.png", mask)
            pixels = tuple(np.bincount(mask.ravel(), minlength=256)[: label_map.classes].tolist())
        if small is image and is_plain(source.image):
            image_file = folder / "images" / f"{source.id}{source.image.suffix.lower()}"
            image_file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.image, image_file)
        else:
            image_file = write_image(folder / "images" / f"{source.id}.jpg", small)
    except DataError as error:
        return Refusal("unreadable", f"{error.what}{error.why and f' ({error.why})'}{error.fix and f': {error.fix}'}")
    digest = hashlib.sha256(repr(small.shape).encode() + small.tobytes()).digest()
    return Copy(Record(source.id, image_file, mask_file, size[1], size[0], pixels), digest)


def _upright(codes: NDArray[np.int32], image: Path, size: tuple[int, int]) -> NDArray[np.int32]:
    """A mask turned with its photo where it was drawn on the stored pixels.

    That is certain only where the mask has the size of the stored photo and not of the upright one; in any other case
    (half a turn, mirrored, square) it is taken as drawn on the photo as programs show it.
    """
    exif = orientation(image)
    return orient(codes, exif) if codes.shape != size and exif >= 5 and codes.shape == size[::-1] else codes


def refuse(refusals: Sequence[Refusal], classes: Classes, fix: str = "") -> None:
    """Raise the DataError that lists them, the gravest kind first; nothing if there are none.

    fix: what to try; without it, what fits somebody's own files.
    """
    by_kind: dict[str, list[Refusal]] = {"unreadable": [], "sizes": [], "values": []}
    for refusal in refusals:
        by_kind[refusal.kind].append(refusal)
    if found := by_kind["unreadable"]:
        repair = fix or "repair, convert or remove them"
        raise DataError(f"{_files(found)} cannot be used", why=_lines(found), fix=repair)
    if found := by_kind["sizes"]:
        raise DataError(
            f"{_files(found)}: image and mask differ in size",
            why=_lines(found),
            fix=fix or "make each mask as large as its image, and no larger",
        )
    if found := by_kind["values"]:
        codes: Counter[int] = Counter()
        for refusal in found:
            codes.update(refusal.codes)
        listed = ", ".join(f"{code_name(code)} ({count} pixels)" for code, count in codes.most_common(12))
        raise DataError(
            f"{_files(found)}: masks have values outside the {len(classes.names)} classes",
            why=f"{listed}\n{_lines(found)}",
            fix=fix or _remedy(sorted(codes), classes),
        )


def _remedy(codes: Sequence[int], classes: Classes) -> str:
    """What most likely was meant by values outside the classes."""
    count = len(classes.names)
    if any(code > 0xFFFF for code in codes):
        if not classes.palette:
            return 'these are colour masks: --classes FILE.json with {"names": [...], "palette": [[r, g, b], ...]}'
    elif count == 2 and len(codes) == 1:
        return f"--map {code_name(codes[0])}=1 if this is class 1 ('{classes.names[1]}')"
    elif list(codes) == [count]:
        shift = " ".join(f"--map {index + 1}={index}" for index in range(count))
        return f"{shift} if the classes are counted from 1, or --map {count}={IGNORE} to ignore these pixels"
    ignored = " ".join(f"--map '{code_name(code)}={IGNORE}'" for code in codes[:8])
    return f"{ignored} to ignore these pixels, or add their classes to the classes file"


def _files(refusals: Sequence[Refusal]) -> str:
    return f"{len(refusals)} file{'s' * (len(refusals) > 1)}"


def _lines(refusals: Sequence[Refusal], most: int = 100) -> str:
    lines = [refusal.text for refusal in refusals[:most]]
    return "\n".join(lines + [f"... and {len(refusals) - most} more"] * (len(refusals) > most))
