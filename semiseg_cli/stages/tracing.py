"""Outlines of the regions of a label map, simplified without gaps or overlaps between neighbours.

Regions are traced along the borders of pixels and handed to Shapely, an optional package: GEOS puts their faces
together and simplifies their common borders once (`coverage_simplify`, after Visvalingam and Whyatt, 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.sources.polygons.outlines import Ring


class Outline(NamedTuple):
    """A region of one class as a single ring, (N, 2), not closed: holes are joined to it by cuts that enclose nothing,
    so that formats without holes keep them."""

    label: int
    ring: Ring


def require() -> Any:
    """The package that traces. Raises UsageError where it is missing."""
    try:
        import shapely
    except ImportError as error:
        raise UsageError(
            "polygons need Shapely, which is not installed", fix="pip install 'semiseg[labels]'"
        ) from error
    return shapely


def traced(label_HW: NDArray[np.uint8], tolerance: float, without: Sequence[int] = ()) -> list[Outline]:
    """Every connected region (by edges of pixels) of a label map, the largest first, but for the labels in `without`.

    tolerance: in pixels; corners are dropped whose triangle with their neighbours has less area than its square; 0:
    the outlines follow the borders of pixels.
    """
    shapely = require()
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(_borders(label_HW, tolerance > 0))))
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(int).T
    labels = label_HW[y, x]
    if tolerance:
        faces = shapely.coverage_simplify(faces, tolerance, simplify_boundary=False)
    wanted = ~np.isin(labels, list(without))
    faces, labels = faces[wanted], labels[wanted]
    faces = shapely.orient_polygons(shapely.simplify(faces, 0))  # corners on straight lines tell nothing
    order = np.argsort(-shapely.area(faces), kind="stable")
    return [Outline(int(labels[place]), _one_ring(shapely, faces[place])) for place in order]


def _borders(label_HW: NDArray[np.uint8], cut: bool) -> NDArray[np.float64]:
    """Straight lines (N, 2, 2) between pixels that differ, and around the image; they meet at their ends alone.

    cut: corners at which no third line ends are cut off, from the middle of one unit to the middle of the next: as many
    pixels keep their side, and a slanting border begins as a slanting line.
    """
    around = np.pad(label_HW.astype(np.int16), 1, constant_values=-1)
    upright = np.pad(around[1:-1, 1:] != around[1:-1, :-1], ((1, 1), (0, 0)))
    level = np.pad(around[1:, 1:-1] != around[:-1, 1:-1], ((0, 0), (1, 1)))
    up, down, left, right = upright[:-1], upright[1:], level[:, :-1], level[:, 1:]  # unit lines of every corner
    turn = (up ^ down) & (left ^ right) if cut else np.zeros_like(up)
    turn[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    row, first, last = _runs(level[:, 1:-1], up | down)
    begin, end = first + turn[row, first] / 2, last - turn[row, last] / 2
    lines = [np.stack([begin, row, end, row], axis=1)[begin < end]]
    column, first, last = _runs(upright[1:-1].T, (left | right).T)
    begin, end = first + turn[first, column] / 2, last - turn[last, column] / 2
    lines.append(np.stack([column, begin, column, end], axis=1)[begin < end])
    y, x = np.nonzero(turn)
    lines.append(np.stack([x + right[y, x] - 0.5, y, x, y + down[y, x] - 0.5], axis=1))
    return np.concatenate(lines).reshape(-1, 2, 2).astype(np.float64)


def _runs(lines: NDArray[np.bool_], broken: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row, first and last corner of every run of unit lines, which ends where it is `broken` by another one."""
    begins, ends = lines.copy(), lines.copy()
    begins[:, 1:] &= ~lines[:, :-1] | broken[:, 1:-1]
    ends[:, :-1] &= ~lines[:, 1:] | broken[:, 1:-1]
    row, first = np.nonzero(begins)
    return row, first, np.nonzero(ends)[1] + 1


def _one_ring(shapely: Any, face: Any) -> Ring:
    """The outer ring of a polygon with its holes, each joined to what is there by a cut between the nearest corners."""
    points = shapely.get_coordinates(face)
    ends = np.cumsum([0, *shapely.get_num_coordinates(shapely.get_rings(face))])
    ring, *holes = (np.asarray(points[begin : end - 1]) for begin, end in pairwise(ends))
    for hole in holes:
        away = ((ring[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(away.argmin()), away.shape)
        loop = np.concatenate([hole[there:], hole[: there + 1]])
        ring = np.concatenate([ring[: here + 1], loop, ring[here:]])
    return np.asarray(ring, np.float64)
