"""Classes laid over a photo: their hue on the photo's own light, their outlines in their full colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.viz.palette import Array

SHARE = 0.75  # of the class in the colour; the rest is the photo's
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as JPEG keeps light and colour apart
ROWS = 512  # at a time: floats of all of a large photo would take gigabytes
OUTLINE = 1 / 600  # of the shorter side


def tinted(rgb: Array, label: np.ndarray[Any, Any], colours: Array) -> Array:
    """Photo uint8 HxWx3, classes HxW as rows of colours (K, 3) -> uint8 HxWx3. A value that is no class has no tint.

    The luma of every pixel but those of outlines is the photo's, to rounding: where it is too dark or too bright for a
    colour to be strong, that is weaker instead.
    """
    known = (label >= 0) & (label < len(colours))
    index = np.where(known, label, 0).astype(np.uint8)
    chroma = colours - (colours @ LUMA)[:, None]
    drawn = np.empty_like(rgb)
    for top in range(0, len(rgb), ROWS):
        part = slice(top, top + ROWS)
        share = SHARE * known[part, :, None]
        photo = rgb[part].astype(np.float32)
        luma = (photo @ LUMA)[..., None]
        away = share * chroma[index[part]] + (1 - share) * (photo - luma)
        room = np.where(away > 0, 255 - luma, luma) / np.maximum(np.abs(away), 1e-6)
        drawn[part] = np.rint(luma + np.minimum(room.min(-1, keepdims=True), 1) * away).clip(0, 255)
    edge = _outlines(np.where(known, index, 255).astype(np.uint8), max(1, round(min(label.shape) * OUTLINE)))
    edge &= known
    drawn[edge] = colours[index[edge]]
    return drawn


def _outlines(label: Array, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Pixels that have another class within `width`."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(label, square) != cv2.erode(label, square))
