"""Shapes of annotations, and which pixels they cover.

Coordinates are in pixels, x to the right and y down from the upper left corner of the image, so that the centre of its
first pixel is (0.5, 0.5). A pixel belongs to a shape if its centre lies inside, by the even-odd rule: an outline that
crosses itself, or goes back and forth along a cut to a hole, encloses what an odd number of turns encloses. Of two
shapes that share an edge, a centre on it belongs to one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # (N, 2): x, y of each corner, open or closed
_SAGITTA = 0.005  # pixels by which a polygon of an ellipse may keep within it


class Stamp(NamedTuple):
    """Pixels that a shape covers: a boolean crop HxW, and where in the image its first pixel lies."""

    top: int
    left: int
    inside: NDArray[np.bool_]


def filled(ring: Ring, height: int, width: int) -> Stamp:
    """The pixels within an outline, of an image of this size; what lies outside of the image is cut off.

    Every row's centre line is crossed by edges; each crossing flips all pixels to its right.
    """
    x, y = np.asarray(ring, np.float64).T
    top, left = (int(np.clip(np.ceil(least - 0.5), 0, most)) for least, most in ((y.min(), height), (x.min(), width)))
    bottom, right = (int(np.clip(np.ceil(each.max() - 0.5), 0, m)) for each, m in ((y, height), (x, width)))
    if bottom <= top or right <= left:
        return Stamp(top, left, np.zeros((0, 0), bool))
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    down = y <= y2  # an edge is computed alike whichever way it is passed
    x1, y1, x2, y2 = np.where(down, x, x2), np.where(down, y, y2), np.where(down, x2, x), np.where(down, y2, y)
    first = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64)
    count = np.clip(np.ceil(y2 - 0.5), top, bottom).astype(np.int64) - first
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    part = (row + 0.5 - y1[edge]) / (y2[edge] - y1[edge])
    column = np.clip(np.ceil(x1[edge] + part * (x2[edge] - x1[edge]) - 0.5), left, right).astype(np.int64)
    flips = np.zeros((bottom - top, right - left + 1), bool)
    np.logical_xor.at(flips, (row - top, column - left), True)
    return Stamp(top, left, np.logical_xor.accumulate(flips, axis=1)[:, :-1])


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Ring:
    """A polygon that keeps within an ellipse by at most a 200th of a pixel."""
    radius = max(abs(radius_x), abs(radius_y), 1.0)
    corners = min(max(16, math.ceil(math.pi / math.acos(1 - _SAGITTA / radius))), 4096)
    angle = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def rotated(ring: Ring, degrees: float, x: float, y: float) -> Ring:
    """Turned about a point, clockwise as it is seen. ValueError for what is no angle."""
    if not math.isfinite(degrees):
        raise ValueError(f"{degrees} is no angle")
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    about = np.array([x, y], np.float64)
    away = ring - about
    turned = np.stack([away[:, 0] * cosine - away[:, 1] * sine, away[:, 0] * sine + away[:, 1] * cosine], axis=1)
    return np.asarray(turned + about, np.float64)


def area(ring: Ring) -> float:
    """What an outline encloses, in pixels (Gauss's formula)."""
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
