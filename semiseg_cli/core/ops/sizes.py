"""Sides that a network takes, and images and maps brought to them."""

from __future__ import annotations

from math import floor

from torch import Tensor
from torch.nn import functional as F


def fit_side(side: int, multiple: int, factor: float = 1.0) -> int:
    """`side` times `factor` in pixels, at which an encoder of that `multiple` sees an image.

    The nearest multiple, halves upwards, at least one. An encoder that takes every side (multiple 1) sees an image as
    it is, and a scaled one at a multiple of 8 plus 1, at least 9, which suits maps with aligned corners.
    """
    if multiple > 1:
        if factor == 1:  # whole numbers alone, as graphs of networks have them
            return multiple * max((2 * side + multiple) // (2 * multiple), 1)
        return multiple * max(floor(side * factor / multiple + 0.5), 1)
    return side if factor == 1 else max(9, 8 * round((side * factor - 1) / 8) + 1)


def fit_image(image_B3HW: Tensor, multiple: int, factor: float = 1.0) -> Tensor:
    """Images resized to the sides of `fit_side`; as they are where they have them."""
    height, width = image_B3HW.shape[2:]
    return resize(image_B3HW, (fit_side(height, multiple, factor), fit_side(width, multiple, factor)))


def resize(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with aligned corners, to `size` (height, width); what has that size already is returned itself."""
    if x_BCHW.shape[2:] == size:
        return x_BCHW
    return F.interpolate(x_BCHW, size, mode="bilinear", align_corners=True)
