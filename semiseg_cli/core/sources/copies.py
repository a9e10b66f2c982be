"""Working copies: every image at most so large, upright and 8-bit; every mask an index PNG of the same size.

All that is wrong with somebody's files is collected, so that one run names them all.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from semiseg_cli.core.data.depths import FULL, Levels
from semiseg_cli.core.data.imaging import orient, write_image
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.photos import image_size, is_plain, read_image, reduced
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, counted, few_lines
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import Code, code_name
from semiseg_cli.core.sources.masks import Masks
from semiseg_cli.core.sources.rasters import read_raster
from semiseg_cli.core.sources.survey import look


@dataclass(frozen=True, slots=True)
class Source:
    """An image of the user's, its mask if it has one, and its id in the dataset."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A working copy, and a digest of its pixels that tells equal pictures; empty where it was not opened."""

    record: Record
    digest: bytes


@dataclass(frozen=True)
class Refusal:
    """What is wrong with a file. codes: mask pixels that mean nothing, by code. fix: what to try, if it is known."""

    kind: str  # unreadable | sizes | values
    text: str
    codes: Mapping[Code, int] = field(default_factory=dict)
    fix: str = ""


def copy(
    source: Source, folder: Path, masks: Masks, long_side: int, levels: Levels = FULL, in_place: bool = False
) -> Copy | Refusal:
    """Write the working copy of an image, and of its mask, below `folder`.

    masks: how they are read. long_side: largest side in pixels; larger images are reduced; 0: none is. levels: what
    becomes 0 and 255 of 16 bits a channel. A file that needs no change is copied byte for byte. in_place: one that
    every decoder reads alike is not copied, nor reduced.
    """
    try:
        image = read_image(source.image, levels)
        height, width = image.shape[:2]
        stays = in_place and is_plain(source.image)
        small = image if stays else reduced(image, long_side)
        size = (small.shape[1], small.shape[0])
        mask_file: Path | None = None
        pixels: tuple[int, ...] = ()
        if source.mask:
            raster = read_raster(source.mask, masks.lossy)
            drawn = orient(raster.pixels, masks.turns.get(source.mask, 1))
            if drawn.shape != (height, width):
                text = f"{source.image} is {width}x{height}, {source.mask} {drawn.shape[1]}x{drawn.shape[0]}"
                return Refusal("sizes", text, fix=_resizing(source.mask, drawn.shape, (height, width)))
            if not masks.meaning:
                look(source.mask, masks.lossy)
            else:
                mask = masks.meaning(raster, np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST_EXACT)))
                mask_file = write_image(below(folder / "masks", f"{source.id}.png"), mask)
                pixels = tuple(np.bincount(mask.ravel(), minlength=256)[: masks.meaning.label_map.classes].tolist())
        if stays:
            image_file = source.image.absolute()
        elif small is image and is_plain(source.image):
            image_file = below(folder / "images", f"{source.id}{source.image.suffix.lower()}")
            image_file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.image, image_file)
        else:
            image_file = write_image(below(folder / "images", f"{source.id}.jpg"), small)
    except DataError as error:
        return Refusal("unreadable", f"{error.what}{error.why and f' ({error.why})'}{error.fix and f': {error.fix}'}")
    digest = hashlib.sha256(repr(small.shape).encode() + small.tobytes()).digest()
    length = image_file.stat().st_size if stays else 0
    return Copy(Record(source.id, image_file, mask_file, size[1], size[0], pixels, length), digest)


def unopened(source: Source, lengths: Collection[int]) -> Copy | None:
    """A photo that stays in its place, known by its header alone; None for one that has to be read.

    lengths: in bytes, of the files whose pictures it must not be. Of another length it is none of these files, and has
    no digest.
    """
    try:
        length = source.image.stat().st_size
        if length in lengths or not is_plain(source.image):
            return None
        height, width = image_size(source.image)
    except (OSError, DataError):
        return None
    return Copy(Record(source.id, source.image.absolute(), None, height, width, bytes=length), b"")


def _resizing(mask: Path, there: tuple[int, ...], wanted: tuple[int, int]) -> str:
    """What to do about a mask of another (height, width) than its image."""
    (height, width), (h, w) = wanted, there
    if (h, w) == (width, height):
        return "turn each mask as its image is turned: these two lie on their sides"
    if abs(h * width - w * height) <= max(height, width, h, w):  # the same proportions, rounded to pixels
        name = shlex.quote(str(mask))
        line = f"magick {name} -sample '{width}x{height}!' {name}"
        return f"make each mask as large as its image, without mixing labels: {line}"
    return "make each mask as large as its image, and no larger; these two were cut in different ways"


def refuse(refusals: Sequence[Refusal], classes: Classes, fix: str = "") -> None:
    """Raise the DataError that lists them, the gravest kind first; nothing if there are none.

    fix: what to try; without it, what fits somebody's own files, whose values are refused before (`remedies`).
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
            fix=fix or found[0].fix,
        )
    if found := by_kind["values"]:
        codes: Counter[Code] = Counter()
        for refusal in found:
            codes.update(refusal.codes)
        listed = ", ".join(f"{code_name(code)} ({counted(count, 'pixel')})" for code, count in codes.most_common(12))
        raise DataError(
            f"{_files(found)}: masks have values outside the {len(classes.names)} classes",
            why=f"{listed}\n{_lines(found)}",
            fix=fix,
        )


def _files(refusals: Sequence[Refusal]) -> str:
    return f"{counted(len(refusals), 'file')}"


def _lines(refusals: Sequence[Refusal]) -> str:
    return few_lines([refusal.text for refusal in refusals], 100)
