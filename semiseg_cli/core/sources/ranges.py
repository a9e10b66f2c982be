"""The range of somebody's photos of 16 bits a channel: one for all of them, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.data.depths import FULL, Levels, chosen, histogram, is_deep, shows_little, used
from semiseg_cli.core.data.photos import read_deep
from semiseg_cli.core.errors import DataError, counted, verb

TOGETHER = 64  # histograms in memory, half a megabyte each


def range_of(
    images: Sequence[Path], asked: Levels | None, on_all: Callable[[Callable[[Path], Any], list[Path]], Sequence[Any]]
) -> tuple[Levels, list[str]]:
    """What becomes 0 and 255 in these images, and notes: on the range, and on photos that show next to nothing in it.

    asked: the range if somebody gave it. on_all: does a work on many files. Files that cannot be read count nowhere.
    """
    deep = [path for path, is_one in zip(images, on_all(is_deep, list(images)), strict=True) if is_one]
    total, ranges = np.zeros(65536, np.int64), dict[Path, Levels]()
    for begin in range(0, len(deep), TOGETHER):
        some = deep[begin : begin + TOGETHER]
        for path, counts in zip(some, on_all(_counted, some), strict=True):
            if counts is not None:
                ranges[path] = used(counts)
                total += counts
    if not ranges:
        return asked or FULL, []
    levels = asked or chosen(total)
    return levels, _notes(levels, ranges, asked is not None)


def _notes(levels: Levels, ranges: dict[Path, Levels], asked: bool) -> list[str]:
    notes, (low, high) = list[str](), levels
    if levels != FULL and not asked:
        notes.append(
            f"{counted(len(ranges), 'photo')} of 16 bits a channel, from {low} to {high} of 65535: these become 0 to "
            "255, here and where a network from this dataset is used; --levels LOW,HIGH chooses others"
        )
    if little := [path for path, uses in ranges.items() if shows_little(uses, levels)]:
        uses = ranges[little[0]]
        many = f"{len(little)} of {counted(len(ranges), 'photo')} of 16 bits {verb(len(little), 'has', 'have')}"
        notes.append(
            f"{many} next to nothing between {low} and {high}, the first is {little[0]} ({uses[0]} to {uses[1]}): "
            "photos of different ranges are better converted before or prepared apart; --levels LOW,HIGH sets one for "
            "all"
        )
    return notes


def _counted(path: Path) -> Any:
    try:
        return histogram(read_deep(path))
    except DataError:
        return None
