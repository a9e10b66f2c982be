"""Ascending whole numbers as half-open ranges: which rows of a table are meant, at the cost of the gaps alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Spans:
    """bounds: int64 (R, 2), the first number of a range and one past its last; ascending, none empty, none touching.

    Raises ValueError for others, since they are read from files too.
    """

    def __init__(self, bounds: Any = ()) -> None:
        self.bounds: Numbers = np.asarray(bounds, np.int64).reshape(-1, 2)
        if len(self.bounds) and (self.bounds[0, 0] < 0 or (np.diff(self.bounds.ravel()) <= 0).any()):
            raise ValueError("ranges of rows that do not ascend")
        self.ends: Numbers = np.cumsum(self.bounds[:, 1] - self.bounds[:, 0])  # numbers up to the end of each range

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Spans:
        """Those of ascending numbers, each of which is there once."""
        every = np.fromiter(numbers, np.int64)
        return cls(_joined(every, every + 1))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and np.array_equal(self.bounds, other.bounds)

    __hash__ = None  # type: ignore[assignment]  # nothing of the kind is a key

    def at(self, places: Any) -> Numbers:
        """The numbers at some places among them, counted from 0."""
        places = np.asarray(places, np.int64)
        which = np.searchsorted(self.ends, places, "right")
        return np.asarray(self.bounds[which, 1] - self.ends[which] + places)

    def number(self, place: int) -> int:
        """The number at one place."""
        which = self.ends.searchsorted(place, "right")
        return int(self.bounds[which, 1] - self.ends[which]) + place

    def places(self, numbers: Any) -> Numbers:
        """The places of some numbers; -1 for one that is not there."""
        numbers = np.asarray(numbers, np.int64)
        if not len(self.bounds):
            return np.full(numbers.shape, -1)
        which = np.searchsorted(self.bounds[:, 0], numbers, "right") - 1
        found = self.ends[which] - self.bounds[which, 1] + numbers
        return np.where((which >= 0) & (numbers < self.bounds[which, 1]), found, -1)

    def part(self, start: int, stop: int) -> Spans:
        """The numbers at places from `start` up to `stop`, both of them within."""
        if start >= stop:
            return Spans()
        first, last = np.searchsorted(self.ends, [start, stop - 1], "right")
        bounds = self.bounds[first : last + 1].copy()
        bounds[0, 0], bounds[-1, 1] = self.number(start), self.number(stop - 1) + 1
        return Spans(bounds)

    def without(self, other: Spans) -> Spans:
        return self._where(other, False)

    def meet(self, other: Spans) -> Spans:
        """The numbers that are in both."""
        return self._where(other, True)

    def within(self, whole: Spans) -> Spans:
        """The places in `whole` of all of these, which are in it."""
        starts, lasts = whole.places(self.bounds[:, 0]), whole.places(self.bounds[:, 1] - 1)
        return Spans(_joined(starts, lasts + 1))

    def _where(self, other: Spans, within: bool) -> Spans:
        """Between two bounds next to each other, of either, all numbers or none are in each of both."""
        points = np.unique(np.concatenate([self.bounds.ravel(), other.bounds.ravel()]))
        starts, stops = points[:-1], points[1:]
        kept = (self.places(starts) >= 0) & ((other.places(starts) >= 0) == within)
        return Spans(_joined(starts[kept], stops[kept]))

    def blocks(self, most: int) -> Iterator[tuple[int, int]]:
        """All of them as ranges of at most so many."""
        for start, stop in self.bounds.tolist():
            for first in range(start, stop, most):
                yield first, min(first + most, stop)


def _joined(starts: Numbers, stops: Numbers) -> Numbers:
    """Ascending ranges, those that touch made one."""
    apart = starts[1:] != stops[:-1]
    first, last = np.append(True, apart)[: len(starts)], np.append(apart, True)[: len(stops)]
    return np.stack([starts[first], stops[last]], 1)
