"""Strong colour augmentation, batched on the device with its own parameters for every image.

The field's recipe (UniMatch): brightness, contrast and saturation factors in [0.5, 1.5] and a hue shift in
[-0.25, 0.25] turns with probability 0.8, grayscale with 0.2, Gaussian blur of sigma [0.1, 2] pixels with 0.5.

In YIQ coordinates brightness b scales, saturation s scales the chroma, hue h rotates it, and contrast c pulls towards
the mean luma; none of them touches what another acts on, so they commute and are one 3x3 matrix and one offset:
    x' = b (c T^-1 diag(1, s R(2 pi h)) T x + (1 - c) mean_luma)
Grayscale is s = 0. PIL rotates hue in HSV and clips after each operation: close in distribution, not bit-equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Floats = np.ndarray[Any, np.dtype[np.float64]]

LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
RADIUS = 6  # of the blur's kernel in pixels: three times the largest sigma
DRAWS = 8  # uniform numbers per image


class Photometric:
    """The recipe as a strong view. strength: factor of its ranges and of the probabilities of grayscale and blur."""

    draws = DRAWS

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def tables(self, u: Floats) -> dict[str, Floats]:
        matrix, weight = colour_matrices(u, self.strength)
        return {"matrix": matrix, "weight": weight, "taps": blur_kernels(u, self.strength)}

    def apply(self, rgb01_B3HW: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        return blur(recolour(rgb01_B3HW, tables["matrix"], tables["weight"]), tables["taps"])


def colour_matrices(u: Floats, strength: float = 1.0) -> tuple[Floats, Floats]:
    """Matrices M (B, 3, 3) and offsets' weights w (B, 3) from uniform draws (B, DRAWS): x' = M x + w . mean(x).

    strength: factor of the ranges of jitter and of the probability of grayscale.
    """
    jitter = u[:, 0] < 0.8
    brightness, contrast, saturation = (np.where(jitter, 1.0 + strength * (u[:, i] - 0.5), 1.0) for i in (1, 2, 3))
    angle = np.where(jitter, 2 * math.pi * strength * (u[:, 4] - 0.5) / 2, 0.0)
    saturation = np.where(u[:, 5] < 0.2 * strength, 0.0, saturation)
    chroma = np.zeros((len(u), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(angle)
    chroma[:, 2, 1] = saturation * np.sin(angle)
    chroma[:, 1, 2] = -chroma[:, 2, 1]
    matrix = (brightness * contrast)[:, None, None] * (_FROM_YIQ @ chroma @ _TO_YIQ)
    return matrix, (brightness * (1 - contrast))[:, None] * LUMA


def blur_kernels(u: Floats, strength: float = 1.0) -> Floats:
    """(B, 2 RADIUS + 1) Gaussian taps; the unit impulse where an image is not blurred.

    strength: factor of the probability of blur.
    """
    sigma = 0.1 + 1.9 * u[:, 7]
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / sigma[:, None]) ** 2)
    taps /= taps.sum(1, keepdims=True)
    impulse = np.arange(-RADIUS, RADIUS + 1) == 0
    return np.where((u[:, 6] < 0.5 * strength)[:, None], taps, impulse)


def recolour(rgb01_B3HW: Tensor, matrix_B33: Tensor, weight_B3: Tensor) -> Tensor:
    """Apply `colour_matrices`; the result is clipped to [0, 1]."""
    offset = (weight_B3 * rgb01_B3HW.mean((2, 3))).sum(1)[:, None, None]
    return torch.baddbmm(offset, matrix_B33, rgb01_B3HW.flatten(2)).view_as(rgb01_B3HW).clamp(0, 1)


def blur(image_BCHW: Tensor, taps_BT: Tensor) -> Tensor:
    """Separable convolution with one kernel per image; the border is reflected. Smaller than RADIUS: replicated."""
    b, c, h, w = image_BCHW.shape
    kernel = taps_BT.repeat_interleave(c, 0)[:, None]
    mode = "reflect" if min(h, w) > RADIUS else "replicate"
    x = F.pad(image_BCHW.reshape(1, b * c, h, w), (RADIUS,) * 4, mode=mode)
    x = F.conv2d(x, kernel[:, :, None, :], groups=b * c)
    return F.conv2d(x, kernel[:, :, :, None], groups=b * c).view(b, c, h, w)
