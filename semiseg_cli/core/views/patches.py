"""Patch masks for masked image modelling: which squares of an image are hidden.

An image of H x W pixels has ceil(H / patch) x ceil(W / patch) patches; the last of a row or column is cut.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from torch import Tensor

Floats = np.ndarray[Any, np.dtype[np.float64]]
Grid = np.ndarray[Any, np.dtype[np.bool_]]
Kind = Literal["random", "block", "grid"]

BLOCKS = 256  # at most; a dozen is usual
SMALLEST_BLOCK = 16 / 196  # of all patches, as in BEiT's 14 x 14 grid


def grid_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches."""
    return math.ceil(height / patch), math.ceil(width / patch)


def draws(kind: Kind, rows: int, cols: int) -> int:
    """Uniform numbers that `draw_patches` takes per image."""
    return {"random": rows * cols, "block": 4 * BLOCKS, "grid": 0}[kind]


def draw_patches(u: Floats, rows: int, cols: int, ratio: float, kind: Kind = "random", exact: bool = True) -> Grid:
    """Masked patches (B, rows, cols) from uniform draws (B, `draws`).

    random: exactly round(ratio * rows * cols) patches, or, not `exact`, each of them with probability `ratio`.
    block: the same number in blocks (BEiT, arXiv 2106.08254, algorithm 1); not `exact`, the last block stays whole.
    grid: all but one of every 2 x 2 patches, whatever the ratio.
    """
    if kind == "grid":
        hidden = np.add.outer(np.arange(rows) % 2, np.arange(cols) % 2) > 0
        return np.repeat(hidden[None], len(u), axis=0)
    count = round(ratio * rows * cols)
    if kind == "block":
        return _first(_blocks(u, rows, cols, count), count, exact)
    return _first(u.reshape(-1, rows, cols), count, True) if exact else u.reshape(-1, rows, cols) < ratio


def patch_mask(grid_Brc: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Bool (B, height, width) from a grid of patches."""
    return grid_Brc.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, :height, :width]


def _first(order: Floats, count: int, exact: bool) -> Grid:
    """The `count` patches that come first in `order` (B, rows, cols); not `exact`, those that tie with them as well."""
    flat = order.reshape(len(order), -1)
    ranked = np.argsort(flat, axis=1, kind="stable")
    masked = np.zeros(flat.shape, bool)
    np.put_along_axis(masked, ranked[:, :count], True, axis=1)
    if not exact and count:
        masked = flat <= np.take_along_axis(flat, ranked[:, count - 1 : count], axis=1)
    return masked.reshape(order.shape)


def _blocks(u: Floats, rows: int, cols: int, count: int) -> Floats:
    """For every patch the number of the first block that covers it (B, rows, cols), infinite if none does.

    Blocks come until `count` patches are covered: of an area uniform between the smallest and what is missing, with
    height / width log-uniform in [0.3, 1/0.3], anywhere in the image.
    """
    smallest = SMALLEST_BLOCK * rows * cols
    y, x = np.arange(rows)[:, None], np.arange(cols)
    order = np.full((len(u), rows, cols), np.inf)
    for number, (area, ratio, top, left) in enumerate(np.split(u.T[:, :, None, None], BLOCKS)):
        missing = count - np.isfinite(order).sum((1, 2), keepdims=True)
        if (missing <= 0).all():
            break
        area = smallest + area * np.maximum(missing - smallest, 0)
        ratio = 0.3 ** (1 - 2 * ratio)
        high = np.clip(np.sqrt(area * ratio).round(), 1, rows)
        wide = np.clip(np.sqrt(area / ratio).round(), 1, cols)
        top, left = np.floor(top * (rows - high + 1)), np.floor(left * (cols - wide + 1))
        inside = (y >= top) & (y < top + high) & (x >= left) & (x < left + wide) & (missing > 0)
        order = np.where(inside & np.isinf(order), number, order)
    return order
