"""Tables of an evaluation: classes by frequency, the confusion matrix in shares, and what is mistaken most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST = 20  # classes of a confusion matrix that a page shows


@dataclass(frozen=True)
class ClassRow:
    """frequency: in percent of the labeled pixels; None: not known. iou: in percent of each that is compared."""

    name: str
    colour: str
    frequency: float | None
    iou: Sequence[float | None]


@dataclass(frozen=True)
class Confusion:
    """Rows are the truth: each row's pixels by what they were taken for, in percent. left_out: classes not shown."""

    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    left_out: int


@dataclass(frozen=True)
class Mistake:
    """share: of the truth's pixels. of_errors: of all pixels that are wrong. Both in percent."""

    truth: str
    taken_for: str
    share: float
    of_errors: float


def by_frequency(
    classes: Sequence[str], palette: Sequence[Sequence[int]], frequency: Sequence[float],
    ious: Sequence[Mapping[str, float | None]],
) -> list[ClassRow]:  # fmt: skip
    """The classes, the most frequent first; in their own order where frequencies are not known."""
    rows = [
        ClassRow(name, colour_of(palette, k), frequency[k] if frequency else None, [iou.get(name) for iou in ious])
        for k, name in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: -(row.frequency or 0.0))


def confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Confusion:
    """Of the most frequent classes, in the order of frequency; classes that are never the truth are left out."""
    sums = [sum(row) for row in matrix]
    ranked = sorted((k for k in range(len(classes)) if sums[k]), key=lambda k: -sums[k])
    shown = ranked[:MOST]
    shares = [[100.0 * matrix[row][column] / sums[row] for column in shown] for row in shown]
    return Confusion([classes[k] for k in shown], shares, len(classes) - len(shown))


def mistakes(classes: Sequence[str], matrix: Sequence[Sequence[int]], most: int = 8) -> list[Mistake]:
    """The pairs of classes that cost most pixels, the worst first."""
    wrong = sum(sum(row) - row[k] for k, row in enumerate(matrix))
    pairs = [(row[j], k, j) for k, row in enumerate(matrix) for j in range(len(row)) if j != k and row[j]]
    return [
        Mistake(classes[k], classes[j], 100.0 * count / sum(matrix[k]), 100.0 * count / wrong)
        for count, k, j in sorted(pairs, key=lambda pair: -pair[0])[:most]
    ]


def colour_of(palette: Sequence[Sequence[int]], k: int) -> str:
    """The colour of class k as CSS writes it; one of a circle of hues where the palette is too short."""
    return "#{:02x}{:02x}{:02x}".format(*palette[k]) if k < len(palette) else f"hsl({137.5 * k % 360:.0f} 55% 55%)"
