"""CutMix boxes (Yun et al., 2019, arXiv 1905.04899): UniMatch's one, and the three of cross pseudo supervision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Floats = np.ndarray[Any, np.dtype[np.float64]]
TRIES = 128  # the box that fits least often (area 0.4) is missed once in a million images; it is then moved inside
DRAWS = 2 + 3 * TRIES


def draw_boxes(u: Floats, height: int, width: int, probability: float = 0.5) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Boxes (B, 4) as top, left, bottom, right in pixels from uniform draws (B, DRAWS).

    A box is empty with probability 1 - `probability`. The area is U(0.02, 0.4) of the image, height / width
    U(0.3, 1/0.3). Ratio and corner are redrawn until the box fits, the area is not.
    """
    area = (0.02 + 0.38 * u[:, 1, None]) * height * width
    ratio, top, left = np.split(u[:, 2:], 3, axis=1)
    ratio = 0.3 + (1 / 0.3 - 0.3) * ratio
    box_h, box_w = np.sqrt(area * ratio).astype(np.int64), np.sqrt(area / ratio).astype(np.int64)
    top, left = (top * height).astype(np.int64), (left * width).astype(np.int64)
    first = np.argmax((top + box_h <= height) & (left + box_w <= width), axis=1)
    rows = np.arange(len(u))
    box_h, box_w = np.minimum(box_h[rows, first], height), np.minimum(box_w[rows, first], width)
    top, left = np.minimum(top[rows, first], height - box_h), np.minimum(left[rows, first], width - box_w)
    boxes = np.stack([top, left, top + box_h, left + box_w], axis=1)
    return np.where((u[:, 0] < probability)[:, None], boxes, 0)


def draw_rectangles(
    u: Floats, height: int, width: int, count: int, probability: float = 1.0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`count` rectangles (B, count, 4) for every image, as in `draw_boxes`, from uniform draws (B, 1 + 4 count).

    All of an image's are empty with probability 1 - `probability`.

    The generator of CPS (Chen et al., CVPR 2021, arXiv 2106.01226; from French et al., arXiv 1906.01916): each has an
    area of U(0.25, 0.5) / count of the image, drawn apart from the others', and lies inside. With p = U(0.25, 0.5) its
    relative height is p^U(0, 1) / sqrt(count), so that the aspect is random on a logarithmic scale.
    """
    area, aspect, top, left = u[:, 1:].reshape(len(u), count, 4).transpose(2, 0, 1)
    area = 0.25 + 0.25 * area
    tall = area**aspect
    scale = 1 / np.sqrt(count)
    box_h, box_w = np.round(tall * scale * height), np.round(area / tall * scale * width)
    top, left = np.round(top * (height - box_h)), np.round(left * (width - box_w))
    boxes = np.stack([top, left, top + box_h, left + box_w], axis=2).astype(np.int64)
    return np.where((u[:, 0] < probability)[:, None, None], boxes, 0)


def box_mask(boxes_B4: Tensor, height: int, width: int) -> Tensor:
    """Bool (B, height, width), True inside the box."""
    y = torch.arange(height, device=boxes_B4.device)[:, None]
    x = torch.arange(width, device=boxes_B4.device)
    top, left, bottom, right = boxes_B4[:, :, None, None].unbind(1)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
