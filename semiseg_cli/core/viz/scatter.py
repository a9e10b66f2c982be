"""A scatter plot as a tile: points of classes in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.viz.palette import FAINT, INK, Array

GROUND = (255, 255, 255)
RADIUS, MARGIN = 1 / 200, 1 / 40  # of the tile's shorter side
LEAST = 0.4  # of the longer side of a tile
FINER = 4  # bits below a pixel in which circles are placed


@dataclass(frozen=True)
class Scatter:
    """points: float (N, 2), scaled alike on both axes to fill the tile. label: (N,), rows of colours (K, 3).

    side: the tile's longer side in pixels; the other is what the points need, and at least LEAST of it. Points are
    drawn in their order, each with a thin rim, so that pale colours show.
    """

    points: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    colours: Array
    side: int = 720

    @property
    def shape(self) -> tuple[int, int]:
        extent = np.ptp(self.points, axis=0)
        width, height = (self.side * np.maximum(extent / extent.max(), LEAST) if extent.any() else [self.side] * 2)
        return round(height), round(width)

    def draw(self, height: int, width: int) -> Array:
        drawn = np.full((height, width, 3), GROUND, np.uint8)
        short = min(height, width)
        radius, room = max(short * RADIUS, 1.5), np.array([width, height]) - 2 * short * MARGIN
        least, span = self.points.min(0), np.ptp(self.points, axis=0)
        factor = (room / np.where(span > 0, span, 1)).min()
        placed = (self.points - least - span / 2) * factor + np.array([width, height]) / 2
        unit = 1 << FINER
        for at, k in zip(np.rint(placed * unit).astype(int).tolist(), self.label.tolist(), strict=True):
            for size, colour in ((radius + 0.6, INK), (radius, self.colours[k].tolist())):
                cv2.circle(drawn, at, round(size * unit), colour, cv2.FILLED, cv2.LINE_AA, FINER)
        cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), FAINT)
        return drawn
