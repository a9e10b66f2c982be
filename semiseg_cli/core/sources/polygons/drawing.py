"""Annotated images drawn to label maps: which class each shape has, what covers what, and what is worth a note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, counted, few
from semiseg_cli.core.sources.polygons.labels import counts_nowhere
from semiseg_cli.core.sources.polygons.outlines import Ring, Stamp, filled
from semiseg_cli.core.sources.polygons.shapes import Annotated, Drawing, Label

EMPTY = 254  # pixels in no shape, until it is known what they are
MOST = 253  # classes


@dataclass
class Tally:
    """What was met while drawing, over all images. unknown: labels of no class, and their shapes."""

    unknown: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0
    pixels: int = 0
    empty: int = 0

    def add(self, other: Tally) -> None:
        self.unknown.update(other.unknown)
        self.left.update(other.left)
        self.overlaps += other.overlaps
        self.pixels += other.pixels
        self.empty += other.empty


def class_of(label: Label, names: Sequence[str]) -> int | None:
    """The index of a label's class; `IGNORE` where its pixels count nowhere; None where it is unknown."""
    if label is None:
        return IGNORE
    if isinstance(label, int):
        return label if label < len(names) else None
    if label in names:
        return names.index(label)
    alike = [index for index, name in enumerate(names) if name.lower() == label.lower()]
    return alike[0] if len(alike) == 1 else IGNORE if counts_nowhere(label) else None


def draw(image: Annotated, size: tuple[int, int], names: Sequence[str]) -> tuple[NDArray[np.uint8], Tally]:
    """The label map of an image of this (height, width): class indices, `EMPTY`, `IGNORE`.

    Unknown labels count nowhere. Later shapes cover earlier ones. A shape without three corners, or wholly outside, is
    left out. Raises ValueError for pixels that are not of this size.
    """
    height, width = size
    mask, tally, overlap = np.full(size, EMPTY, np.uint8), Tally(pixels=height * width), False
    for shape in image.shapes:
        index = class_of(shape.label, names)
        if index is None:
            tally.unknown[str(shape.label)] += 1
            index = IGNORE
        stamp = _stamp(shape.what, image.fractions, height, width, tally)
        if stamp is None:
            continue
        part = mask[stamp.top : stamp.top + stamp.inside.shape[0], stamp.left : stamp.left + stamp.inside.shape[1]]
        below = part[stamp.inside]
        overlap |= bool(((below != EMPTY) & (below != index)).any())
        part[stamp.inside] = index
    tally.overlaps = int(overlap)
    tally.empty = int((mask == EMPTY).sum())
    return mask, tally


def _stamp(what: Ring | Drawing, fractions: bool, height: int, width: int, tally: Tally) -> Stamp | None:
    """A shape's pixels within the image; None where there is no area."""
    if callable(what):
        whole = what(height, width)
        top, left = max(whole.top, 0), max(whole.left, 0)
        inside = whole.inside[top - whole.top :, left - whole.left :][: max(height - top, 0), : max(width - left, 0)]
        if not inside.size:
            tally.left["outside of the image"] += 1
        return Stamp(top, left, inside) if inside.size else None
    ring = what * (width, height) if fractions else what
    if len(np.unique(ring, axis=0)) < 3:
        tally.left["of fewer than three corners"] += 1
        return None
    if (ring.max(axis=0) <= 0).any() or (ring.min(axis=0) >= (width, height)).any():
        tally.left["outside of the image"] += 1
        return None
    return filled(ring, height, width)


def refuse_unknown(tally: Tally, names: Sequence[str], again: bool) -> None:
    """Raise the DataError of labels that are no class. again: of a dataset that is there."""
    if tally.unknown:
        listed = ", ".join(f"'{label}' ({counted(count, 'shape')})" for label, count in tally.unknown.most_common(12))
        fix = "add them to the classes file, or --unknown ignore, so that their pixels count nowhere"
        if again:
            fix = "rename them in the annotations; or, as a dataset's classes stay, prepare a new one: a new --name"
        raise DataError(
            "annotations have labels of no class",
            why=f"{listed}; the classes are {few(names, 12)}",
            fix=fix,
        )
