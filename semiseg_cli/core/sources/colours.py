"""Colours for classes that bring none: told apart by eyes that see few colours, too.

Least distance of any two, in CIELAB (CIE76), as they are and as somebody without red or green cones sees them:

    classes            6    10    12    16    20
    as they are       66    32    32    22    21
    without a cone    26    16    16    15    15
"""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.sources.codes import Colour

# Found by exchanging colours, one at a time, for those that raise the least CIEDE2000 distance; the first six near what
# the demo's classes have always had, the others in the order in which each is farthest from those before it.
CHOSEN: tuple[Colour, ...] = (
    (40, 40, 40), (195, 45, 0), (0, 180, 135), (150, 165, 255), (255, 225, 0), (165, 0, 195), (165, 240, 255),
    (240, 225, 210), (225, 150, 0), (105, 135, 135), (90, 30, 0), (195, 45, 90), (0, 0, 150), (180, 210, 135),
    (0, 105, 75), (90, 105, 135), (210, 180, 195), (255, 75, 195), (195, 120, 90), (75, 30, 75),
)  # fmt: skip
# Of linear RGB, to what is seen without red cones (protanopia), without green ones (deuteranopia): Machado et al. 2009.
WITHOUT_A_CONE = np.array([
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
])  # fmt: skip
LIGHTNESS = (16.0, 91.0)  # of further colours: neither the page's white nor black
STEP = 15  # of their levels


def distinct(classes: int) -> tuple[Colour, ...]:
    """As many colours, no two alike: those that were chosen, then each the farthest from all before it."""
    colours = list(CHOSEN[:classes])
    if len(colours) == classes:
        return tuple(colours)
    levels = range(0, 256, STEP)
    grid = np.array(list(itertools.product(levels, levels, levels)))
    lab_VN3 = as_seen(grid)
    inside = (lab_VN3[0, :, 0] > LIGHTNESS[0]) & (lab_VN3[0, :, 0] < LIGHTNESS[1])
    grid, lab_VN3 = grid[inside], lab_VN3[:, inside]
    least = np.full(len(grid), np.inf)
    for colour in CHOSEN:
        least = np.minimum(least, _away(lab_VN3, as_seen(np.array([colour]))))
    while len(colours) < classes:
        place = int(least.round(6).argmax())  # rounded: the same on every machine
        red, green, blue = (int(level) for level in grid[place])
        colours.append((red, green, blue))
        least = np.minimum(least, _away(lab_VN3, lab_VN3[:, place : place + 1]))
    return tuple(colours)


def as_seen(rgb_N3: NDArray[Any]) -> NDArray[np.float64]:
    """CIELAB (3, N, 3) of sRGB levels in [0, 255]: with all cones, without red ones, without green ones."""
    level = rgb_N3 / 255.0
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    seen_VN3 = np.stack([linear, *(linear @ matrix.T for matrix in WITHOUT_A_CONE)]).clip(0, 1)
    srgb = np.where(seen_VN3 <= 0.0031308, 12.92 * seen_VN3, 1.055 * seen_VN3 ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(srgb.astype(np.float32), cv2.COLOR_RGB2LAB).astype(np.float64)


def _away(lab_VN3: NDArray[np.float64], from_V13: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each, the distance from one, in the eyes that see least of it."""
    away: NDArray[np.float64] = np.linalg.norm(lab_VN3 - from_V13, axis=-1).min(0)
    return away
