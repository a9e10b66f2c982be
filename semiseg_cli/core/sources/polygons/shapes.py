"""What a file of annotations says, whatever its format: images, the shapes in them, and the classes that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.sources.polygons.outlines import Ring, Stamp

# What is raised where something in a document is of another type, or lacks, or is beyond all bounds.
UNFIT = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
BOXES = "boxes without an outline, whose pixels count nowhere"
Drawing = Callable[[int, int], Stamp]  # pixels of an image of this height and width; ValueError where they are not
Label = str | int | None  # a class by name, by number where the file names none; None: its pixels count nowhere


@dataclass(frozen=True)
class Shape:
    """Either an outline, in pixels of the image, or the pixels themselves, which are unpacked once they are drawn: a
    few bytes may claim any number of them."""

    label: Label
    what: Ring | Drawing


@dataclass(frozen=True)
class Annotated:
    """An image's shapes, the later above the earlier. names: what may be its photo's, best first. size: (height,
    width); None: the file does not say. fractions: outlines are in fractions of the image's sides."""

    names: tuple[str, ...]
    size: tuple[int, int] | None
    shapes: Sequence[Shape]
    file: Path
    fractions: bool = False


@dataclass
class Found:
    """All that files of one format say. left: shapes that have no area or no outline, by kind. strange: JSON and XML
    files beside them that are no annotations."""

    format: str
    images: list[Annotated] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    strange: list[Path] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.images += other.images
        self.classes += [name for name in other.classes if name not in self.classes]
        self.left.update(other.left)


def said(error: Exception) -> str:
    """What is wrong, of those in `UNFIT`."""
    return f"no entry {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def named(entry: Any, number: int) -> Any:
    """What an entry of a list is called in messages: by its id, else by its place."""
    return entry.get("id", number) if isinstance(entry, dict) else number


def ring(points: Any) -> Ring:
    """Corners (N, 2) from pairs or a flat list of numbers. Raises ValueError for anything else."""
    try:
        corners = np.asarray(points, np.float64)
    except (ValueError, TypeError):
        corners = np.full((), np.nan)
    if corners.ndim == 1 and len(corners) % 2 == 0:
        corners = corners.reshape(-1, 2)
    if corners.ndim != 2 or corners.shape[1] != 2 or not (np.abs(corners) < 1e7).all():
        raise ValueError(f"{str(points)[:60]} are no corners")
    return corners


def size(height: Any, width: Any) -> tuple[int, int] | None:
    """As (height, width); None where the file has none. Raises ValueError for what is no size."""
    if height in (None, "", 0) or width in (None, "", 0):
        return None
    if not 0 < int(height) < 1 << 20 or not 0 < int(width) < 1 << 20:
        raise ValueError(f"{width}x{height} is no size of an image")
    return int(height), int(width)
