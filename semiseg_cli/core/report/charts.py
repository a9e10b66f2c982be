"""Charts as SVG geometry, which `templates/charts.html` writes out.

Drawn here rather than by a library: those that draw SVG without a browser bring fifty megabytes and half a second at
import (matplotlib), or colours of their own written into every shape, which follow neither light and dark nor print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Points = Sequence[tuple[float, float]]  # step, value

WIDTH, HEIGHT = 460, 250  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 48, 452, 8, 214  # of what lies between the axes
STYLES = 16  # lines that the style sheet tells apart, by eight colours and by their dashes
MOST = 240  # points of a line; more are averaged
DOTS = 30  # a line of no more points shows each of them
WIDE = 30.0  # highest value by lowest: from here on a loss is shown on a logarithmic axis


@dataclass(frozen=True)
class Series:
    """One line, or one layer of shares. style: 0 to STYLES - 1 of a line. colour: of a layer, as CSS writes it."""

    label: str
    points: Points
    style: int = 0
    colour: str = ""


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A path; dots: where its points are, if it shows them."""

    label: str
    path: str
    style: int = 0
    colour: str = ""
    dots: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Chart:
    """summary: what it shows, in words. rows: the same as numbers, a line for each step; columns: what they are."""

    name: str
    title: str
    summary: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark]
    legend: Sequence[Mark]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    filled: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)
    box: tuple[int, int, int, int] = field(default=(LEFT, RIGHT, TOP, BOTTOM))


def lines(name: str, title: str, series: Sequence[Series], *, unit: str = "", zero: bool = False) -> Chart | None:
    """Lines over steps; None where there is nothing to show. zero: the axis begins there.

    Values that are not finite are left out. Without `zero`, positive values that differ by a factor of WIDE are shown
    on a logarithmic axis.
    """
    series = [kept for each in series if (kept := _finite(each)).points]
    if not series:
        return None
    values = [y for each in series for _, y in each.points]
    low, high, last = min(values), max(values), max(x for each in series for x, _ in each.points)
    wide = not zero and low > 0 and high / low > WIDE
    y_at = _log_ticks(low, high) if wide else ticks(min(low, 0.0) if zero else low, high)
    x_at = ticks(0.0, last)
    y = Scale(y_at[0], y_at[-1], BOTTOM, TOP, wide)
    x = Scale(0.0, max(last, x_at[-1]), LEFT, RIGHT)
    marks = []
    for each in series:
        places = [(f"{x(a):.1f}", f"{y(b):.1f}") for a, b in thinned(each.points)]
        path = "M" + "L".join(f"{a} {b}" for a, b in places)
        marks.append(Mark(each.label, path, each.style, dots=places if len(places) <= DOTS else ()))
    named = {mark.label: mark for mark in marks}
    said = "; ".join(_words(each, unit) for each in series[:6]) + (f"; {len(series) - 6} more" * (len(series) > 6))
    return Chart(
        name, title, said, [Tick(x(at), _label(at)) for at in x_at], [Tick(y(at), _label(at) + unit) for at in y_at],
        marks, list(named.values()), ["step", *(each.label for each in series)], _table(series, unit),
    )  # fmt: skip


def shares(name: str, title: str, series: Sequence[Series], said: str) -> Chart | None:
    """Parts of a whole over time, on top of each other: a column for every step that all series have a point at.

    Every column is filled up to one; those without anything are left empty. None where there is nothing to show.
    """
    steps = [x for x, _ in series[0].points] if series else []
    columns = [[max(y, 0.0) for _, y in each.points] for each in series]
    if not steps or not any(map(sum, columns)):
        return None
    group = -(-len(steps) // 60)
    edges = [0.0, *(steps[min(i + group, len(steps)) - 1] for i in range(0, len(steps), group))]
    if steps[0] > 0 and len(steps) > 1:
        edges[0] = max(0.0, steps[0] - (steps[1] - steps[0]))
    x_at = ticks(0.0, edges[-1])
    x, y = Scale(0.0, max(edges[-1], x_at[-1]), LEFT, RIGHT), Scale(0.0, 1.0, BOTTOM, TOP)
    sums = [[sum(column[i : i + group]) for i in range(0, len(steps), group)] for column in columns]
    totals = [sum(each) for each in zip(*sums, strict=True)]
    base, marks = [0.0] * len(totals), []
    for each, heights in zip(series, sums, strict=True):
        path = ""
        for i, total in enumerate(totals):
            if total and heights[i]:
                top = base[i] + heights[i] / total
                path += f"M{x(edges[i]):.1f} {y(base[i]):.1f}V{y(top):.1f}H{x(edges[i + 1]):.1f}V{y(base[i]):.1f}Z"
                base[i] = top
        marks.append(Mark(each.label, path, colour=each.colour))
    y_ticks = [Tick(y(at), f"{100 * at:.0f} %") for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
    percent = [Series(each.label, [(a, 100 * b) for a, b in each.points]) for each in series]
    return Chart(
        name, title, said, [Tick(x(at), _label(at)) for at in x_at], y_ticks, marks, marks[::-1],
        ["step", *(each.label for each in series)], _table(percent, " %"), filled=True,
    )  # fmt: skip


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, the first at most `low` and the last at least `high`, with `about` steps between them.

    >>> ticks(0, 430)
    [0, 100, 200, 300, 400, 500]
    """
    if high - low < 1e-9 * max(abs(high), abs(low), 1.0):
        margin = abs(high) / 10 if abs(high) > 1e-6 else 1.0
        low, high = low - margin if low else 0.0, high + margin  # what never moves from zero has nothing below it
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thinned(points: Points, most: int = MOST) -> Points:
    """At most so many points: means of neighbours."""
    if len(points) <= most:
        return points
    group = -(-len(points) // most)
    parts = [points[i : i + group] for i in range(0, len(points), group)]
    return [(part[-1][0], math.fsum(y for _, y in part) / len(part)) for part in parts]


def _finite(series: Series) -> Series:
    points = [(x, y) for x, y in series.points if math.isfinite(y)]
    return Series(series.label, points, series.style % STYLES, series.colour)


class Scale:
    """From values to places. log: equal factors are equal distances."""

    def __init__(self, low: float, high: float, at_low: float, at_high: float, log: bool = False) -> None:
        self.map = math.log if log else float
        self.low, self.span = self.map(low), (self.map(high) - self.map(low)) or 1.0
        self.at_low, self.at_high = at_low, at_high

    def __call__(self, value: float) -> float:
        return self.at_low + (self.map(value) - self.low) / self.span * (self.at_high - self.at_low)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**decade for decade in decades for factor in ((1, 3) if len(decades) < 4 else (1,))]
    first = max(i for i, at in enumerate(every) if at <= low)
    last = min((i for i, at in enumerate(every) if at >= high), default=len(every) - 1)
    return every[first : last + 1] if every[last] >= high else [*every[first:], 10.0 * every[-1]]


def _label(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _words(series: Series, unit: str) -> str:
    values = [y for _, y in series.points]
    if len(values) == 1:
        return f"{series.label}: {values[0]:.3g}{unit} at step {series.points[0][0]:g}"
    return f"{series.label}: from {values[0]:.3g}{unit} to {values[-1]:.3g}{unit}"


def _table(series: Sequence[Series], unit: str, most: int = 12) -> list[list[str]]:
    """Up to `most` steps, evenly drawn with the last among them, and the value of each series there."""
    steps = sorted({x for each in series for x, _ in each.points})
    every = -(-len(steps) // most)
    shown = steps[::-1][::every][::-1]
    found = [dict(each.points) for each in series]
    return [
        [f"{step:g}", *(f"{values[step]:.3g}{unit}" if step in values else "" for values in found)] for step in shown
    ]
