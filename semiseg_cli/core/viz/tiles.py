"""Tiles: what one place of a sheet shows. Each knows its size in source pixels and draws itself at any other.

Labels are enlarged and reduced without inventing colours in between. Pixels without a label (ignored, padding, not
kept) show a pattern of grey squares, never a colour of the palette.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from semiseg_cli.core.viz.palette import WRONG, Array, checks, heat

Floats = np.ndarray[Any, Any]  # HxW, float
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Tile(Protocol):
    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in source pixels."""

    def draw(self, height: int, width: int) -> Array:
        """uint8 height x width x 3 RGB."""


@dataclass(frozen=True)
class Photo:
    """An image, uint8 HxWx3 RGB; where `valid` (bool HxW) is False it is padding."""

    rgb: Array
    valid: Bools | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.rgb.shape[0], self.rgb.shape[1]

    def draw(self, height: int, width: int) -> Array:
        return _masked(_smooth(self.rgb, height, width), self.valid)


@dataclass(frozen=True)
class Labels:
    """Classes, integers HxW, in their colours (K, 3); a value that is no class has no label.

    weight: float HxW in [0, 1], how much of each pixel counts; None: all of it.
    """

    label: np.ndarray[Any, Any]
    colours: Array
    weight: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.label.shape[0], self.label.shape[1]

    def draw(self, height: int, width: int) -> Array:
        known = (self.label >= 0) & (self.label < len(self.colours))
        weight = known if self.weight is None else np.where(known, np.clip(self.weight, 0, 1), 0)
        share = _nearest(weight.astype(np.float32), height, width)[..., None]
        colour = self.colours[_nearest(np.where(known, self.label, 0).astype(np.uint8), height, width)]
        return np.asarray(np.rint(share * colour + (1 - share) * checks(height, width)), np.uint8)


@dataclass(frozen=True)
class Heat:
    """Values HxW in [0, 1] as a heat map; where `valid` is False there is none."""

    values: Floats
    valid: Bools | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    def draw(self, height: int, width: int) -> Array:
        return _masked(heat(_smooth(self.values.astype(np.float32), height, width)), self.valid)


@dataclass(frozen=True)
class Errors:
    """Where a prediction is wrong, on the image in pale grey.

    wrong, counted: bool HxW; what does not count shows as having no label.
    """

    rgb: Array
    wrong: Bools
    counted: Bools

    @property
    def shape(self) -> tuple[int, int]:
        return self.wrong.shape[0], self.wrong.shape[1]

    def draw(self, height: int, width: int) -> Array:
        grey = cv2.cvtColor(_smooth(self.rgb, height, width), cv2.COLOR_RGB2GRAY)
        pale = np.repeat((110 + 0.55 * grey).clip(0, 250).astype(np.uint8)[..., None], 3, axis=2)
        pale[_nearest(self.wrong.astype(np.uint8), height, width) > 0] = WRONG
        return _masked(pale, self.counted)


def _smooth(image: Any, height: int, width: int) -> Any:
    """Averaged when it shrinks; enlarged by a whole factor it keeps its pixels (crisp, and a third of the bytes)."""
    if height % image.shape[0] == 0 and width % image.shape[1] == 0:
        return _nearest(image, height, width)
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _nearest(image: Any, height: int, width: int) -> Any:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _masked(drawn: Array, valid: Bools | None) -> Array:
    if valid is None or valid.all():
        return drawn
    height, width = drawn.shape[:2]
    keep = _nearest(valid.astype(np.uint8), height, width) > 0
    return np.where(keep[..., None], drawn, checks(height, width))
