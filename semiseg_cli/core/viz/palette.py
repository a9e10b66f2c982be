"""Colours: of classes, of a value between 0 and 1, of what is wrong, and of the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.errors import DataError, counted

Array = np.ndarray[Any, np.dtype[np.uint8]]

PAPER = (250, 250, 250)
INK = (25, 25, 25)
FAINT = (110, 110, 110)
WRONG = (214, 30, 90)
CHECKS = ((255, 255, 255), (205, 205, 205))  # the squares of "no label", as image editors show transparency


def class_colours(palette: Sequence[Sequence[int]], classes: Sequence[str], where: str) -> Array:
    """The palette as uint8 (K, 3). Raises DataError, naming `where`, for fewer colours than classes."""
    if len(palette) < len(classes):
        raise DataError(
            f"the palette of {where} has {counted(len(palette), 'colour')} for {len(classes)} classes",
            why=f"no colour for: {', '.join(classes[len(palette):])}",
            fix="add [red, green, blue] entries to `palette` in its dataset.toml",
        )
    return np.array(palette[: len(classes)], np.uint8).reshape(-1, 3)


def heat(values01: np.ndarray[Any, Any]) -> Array:
    """Viridis (equal steps look equal, brighter is more): values in [0, 1], clipped, to uint8 (..., 3) RGB."""
    index = np.rint(np.clip(values01, 0, 1) * 255).astype(np.uint8)
    ramp = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    return np.asarray(ramp[index], np.uint8)


def checks(height: int, width: int, side: int = 6) -> Array:
    """The pattern of "no label": squares of `side` pixels."""
    y, x = np.mgrid[:height, :width] // side
    return np.asarray(np.array(CHECKS, np.uint8)[(y + x) % 2])
