"""Maps and images in register: value i of a map of stride s belongs to pixel s i.

That is where convolutions with a stride put it. Enlarging with aligned corners, as the field's networks do, agrees only
at sides of 16 n + 1 (their crops of 321, 513, 769 and 801 are such): elsewhere it stretches the map, by up to 15 pixels
at the far border. Here a map keeps its places at any size, and its last row and column reach to the border.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDES = (1, 2, 4, 8, 16, 32)


def stride_between(coarse: Sequence[int], fine: Sequence[int]) -> int | None:
    """The stride by which convolutions made a map of `coarse` sides from one of `fine` sides; None if none did."""
    fits = (s for s in STRIDES if all(-(-full // s) == n for n, full in zip(coarse, fine, strict=True)))
    return next(fits, None)


def enlarge(x_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """A map of a coarser stride, bilinearly, in register with one of `size` (height, width).

    Corners are aligned instead where `size` is not that of a map it was made from, as with images that were scaled.
    """
    stride = stride_between(x_BChw.shape[2:], size)
    if stride is None:
        return F.interpolate(x_BChw, size, mode="bilinear", align_corners=True)
    height, width = (stride * (n - 1) + 1 for n in x_BChw.shape[2:])
    y = F.interpolate(x_BChw, (height, width), mode="bilinear", align_corners=True)
    if width < size[1]:
        y = torch.cat([y, y[:, :, :, -1:].expand(-1, -1, -1, size[1] - width)], 3)
    if height < size[0]:
        y = torch.cat([y, y[:, :, -1:].expand(-1, -1, size[0] - height, -1)], 2)
    return y


def sample(x_BHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of a map that belong to a coarser one of `size` (h, w), the inverse of `enlarge`."""
    fine = x_BHW.shape[1:]
    stride = stride_between(size, fine)
    steps = [stride or (full - 1) / max(n - 1, 1) for n, full in zip(size, fine, strict=True)]
    rows, columns = (
        (torch.arange(n, device=x_BHW.device) * step).round().long() for n, step in zip(size, steps, strict=True)
    )
    return x_BHW[:, rows[:, None], columns]
