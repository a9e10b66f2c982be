"""Which class overlapping windows say together, without the probabilities that would not change it.

Softmax keeps the order of logits, so that one window alone needs none, and windows that agree on a class have it first
in the sum of their probabilities as well. Only where they disagree are probabilities summed. The classes are those of
the sum everywhere, but where two of them have sums that are equal to the last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Window(NamedTuple):
    """A window of an image: its first row and column there, in pixels, and its logits."""

    top: int
    left: int
    logits_Khw: Tensor

    @property
    def bottom(self) -> int:
        return self.top + self.logits_Khw.shape[1]

    @property
    def right(self) -> int:
        return self.left + self.logits_Khw.shape[2]

    def part(self, rows: slice, columns: slice) -> Tensor:
        """Logits of some rows and columns of the image."""
        top, left = self.top, self.left
        return self.logits_Khw[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def at(self, row: Tensor, column: Tensor) -> Tensor:
        """Logits (K, N) of some pixels of the image."""
        place = (row - self.top) * self.logits_Khw.shape[2] + column - self.left
        if self.logits_Khw.stride(0) == 1:  # channels_last
            return self.logits_Khw.permute(1, 2, 0).flatten(0, 1).index_select(0, place).T
        return self.logits_Khw.flatten(1).index_select(1, place)


def decide(windows: Sequence[Window], rows: slice, label_HW: Tensor) -> None:
    """Write the classes of some rows of an image, which the windows cover."""
    for band in _pieces(rows.start, rows.stop, [edge for one in windows for edge in (one.top, one.bottom)]):
        for part in _pieces(0, label_HW.shape[1], [edge for one in windows for edge in (one.left, one.right)]):
            there = [w for w in windows if w.top <= band.start < w.bottom and w.left <= part.start < w.right]
            label_HW[band, part] = _together(there, band, part)


def _together(windows: Sequence[Window], rows: slice, columns: slice) -> Tensor:
    """The first class in the sum of the probabilities of windows that all cover these pixels."""
    if len(windows) > 1 and windows[0].logits_Khw.is_cuda:  # where to look closer would have to be told to the host
        return _first(_summed([one.part(rows, columns) for one in windows]))
    label_hw, *others = (_first(one.part(rows, columns)) for one in windows)
    if not others:
        return label_hw
    unlike_hw = torch.zeros_like(label_hw, dtype=torch.bool)
    for other_hw in others:
        unlike_hw |= other_hw != label_hw
    row, column = unlike_hw.nonzero(as_tuple=True)
    image = row + rows.start, column + columns.start
    label_hw[row, column] = _first(_summed([one.at(*image) for one in windows]))
    return label_hw


def _summed(logits: Sequence[Tensor]) -> Tensor:
    """Of the probabilities."""
    total = softmax(logits[0], 0)
    for each in logits[1:]:
        total += softmax(each, 0)
    return total


def softmax(logits: Tensor, dim: int) -> Tensor:
    """In the precision of the logits, at least float32."""
    return logits.softmax(dim, dtype=torch.promote_types(logits.dtype, torch.float32))


def _first(scores_K: Tensor) -> Tensor:
    # max is several times as fast as argmax on a CPU where the dimension is not the innermost
    return scores_K.max(0).indices


def _pieces(begin: int, end: int, edges: Sequence[int]) -> Iterator[slice]:
    """From `begin` to `end`, cut at the edges between them."""
    cuts = sorted({begin, end, *(edge for edge in edges if begin < edge < end)})
    return (slice(*ends) for ends in pairwise(cuts))
