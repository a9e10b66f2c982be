"""The weak view on the host: one warp from decoded image to crop (rescale, pad, crop, flip, rotate in a single pass).

The recipe is UniMatch's: the long side becomes an integer uniform in [lo, hi] x long side, the aspect is kept, the
right and bottom are padded up to the crop, the crop is uniform, a flip has probability 0.5. Interpolation is bilinear
for images and nearest for labels. Unlike PIL's resize, a single warp does not smooth when it shrinks. A rotation, which
that recipe does not have, turns the crop about its centre; what then comes from outside the image is padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.data.decode import Array
from semiseg_cli.core.data.spec import IGNORE


@dataclass(frozen=True)
class Warp:
    """Where a crop comes from: `matrix` maps source pixels to crop pixels; `left:right, :bottom` is not padding.

    Of a turned crop the rectangle says nothing: its padding is what lies outside the image.
    """

    matrix: np.ndarray[Any, np.dtype[np.float64]]
    left: int
    right: int
    bottom: int
    turned: bool = False


def draw_warp(
    rng: np.random.Generator, height: int, width: int, crop: int, scale: tuple[float, float], rotation: float = 0.0
) -> Warp:
    """One random weak view of a height x width image; `crop` is the side of the square result in pixels.

    rotation: the angle is uniform in [-rotation, rotation], in degrees.
    """
    long = max(height, width)
    new_long = int(rng.integers(int(long * scale[0]), int(long * scale[1]) + 1))
    new_h, new_w = max(1, round(height * new_long / long)), max(1, round(width * new_long / long))
    top = int(rng.integers(0, max(new_h - crop, 0) + 1))
    left = int(rng.integers(0, max(new_w - crop, 0) + 1))
    sx, sy = new_w / width, new_h / height
    # pixel centres: x' + 0.5 = s (x + 0.5)
    matrix = np.array([[sx, 0, 0.5 * sx - 0.5 - left], [0, sy, 0.5 * sy - 0.5 - top]])
    right, bottom = min(new_w - left, crop), min(new_h - top, crop)
    left = 0
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += crop - 1
        left, right = crop - right, crop
    if rotation:  # drawn last, so that without it every other draw is what it was
        matrix = _turn(matrix, float(rng.uniform(-rotation, rotation)), (crop - 1) / 2)
    return Warp(matrix, left, right, bottom, rotation > 0)


def _turn(matrix: Any, degrees: float, centre: float) -> Any:
    """The warp followed by a rotation about (centre, centre)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[cos, -sin], [sin, cos]])
    turned = rotation @ matrix
    turned[:, 2] += centre - rotation @ [centre, centre]
    return turned


def apply_warp(warp: Warp, image: Array, mask: Array | None, crop: int) -> tuple[Array, Array | None, Array]:
    """Image crop (crop, crop, 3), mask crop or None, and valid crop (1 inside the image, 0 on padding), all uint8.

    Padding is black in the image and ignore in the mask.
    """
    size = (crop, crop)
    # replicate, then blank: a constant border would blend into the last row and column of the image
    out = cv2.warpAffine(image, warp.matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if warp.turned:
        inside = np.ones(image.shape[:2], np.uint8)
        valid = np.asarray(cv2.warpAffine(inside, warp.matrix, size, flags=cv2.INTER_NEAREST), np.uint8)
    else:
        valid = np.zeros(size, np.uint8)
        valid[: warp.bottom, warp.left : warp.right] = 1
    out[valid == 0] = 0
    if mask is None:
        return np.asarray(out, np.uint8), None, valid
    labels = cv2.warpAffine(mask, warp.matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    labels[valid == 0] = IGNORE
    return np.asarray(out, np.uint8), np.asarray(labels, np.uint8), valid

