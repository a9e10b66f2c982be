"""Position tables of vision transformers at other grids than their own.

Both axes are products with a small matrix: their gradients repeat exactly, also where resizing's do not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resampled(table_hwD: Tensor, grid: tuple[int, int], offset: float | None) -> Tensor:
    """A position table at another grid, bicubic; as it is at its own.

    offset: None resizes to the grid, with antialiasing, as timm does for all and Meta for models with registers. A
    number is Meta's rule for DINOv2 without them: each axis is scaled by (grid + offset) / own, that factor and not the
    sizes decides where is sampled, and there is no antialiasing. A model belongs to the rule it was trained with.
    """
    if torch.compiler.is_exporting():
        return _for_any_grid(table_hwD, grid, offset)
    if table_hwD.shape[:2] == grid:
        return table_hwD
    with torch.autocast(table_hwD.device.type, enabled=False):
        down = _resizing(table_hwD.shape[0], grid[0], offset, table_hwD)
        across = _resizing(table_hwD.shape[1], grid[1], offset, table_hwD)
        return torch.einsum("hi,ijD,wj->hwD", down, table_hwD, across)


def _resizing(own: int, side: int, offset: float | None, like: Tensor) -> Tensor:
    """The matrix (side, own) that resizes a line of `own` values: what resizing makes of unit vectors."""
    units = torch.eye(own, device=like.device, dtype=like.dtype)[None, None]  # an image, resized in height alone
    if offset is None:
        return F.interpolate(units, size=(side, own), mode="bicubic", antialias=True)[0, 0]
    return F.interpolate(units, scale_factor=((side + offset) / own, 1.0), mode="bicubic")[0, 0]


def _for_any_grid(table_hwD: Tensor, grid: tuple[int, int], offset: float | None) -> Tensor:
    """The same as a graph that serves every grid: the sizes are tensors, and the matrices are written out.

    `F.interpolate` would keep the factor of the grid at which the graph was made.
    """
    own = table_hwD.shape[:2]
    sides = [torch.scalar_tensor(side, dtype=torch.float32) for side in grid]
    if offset is not None:  # at its own grid a table stays as it is
        other = (sides[0] != own[0]) | (sides[1] != own[1])
        sides = [side + offset * other for side in sides]
    axes = zip(grid, own, sides, strict=True)
    down, across = (_cubic(count, known, known / side, offset is None) for count, known, side in axes)
    return torch.einsum("hi,ijD,wj->hwD", down, table_hwD, across)


def _cubic(count: int, own: int, step: Tensor, antialias: bool) -> Tensor:
    """The matrix (count, own) of bicubic resizing (Keys, 1981), `step` values of the line apart.

    antialias: the kernel is as wide as the steps, and shares add up to 1 within the line; else the line's ends go on.
    """
    a, beyond = (-0.5, 0) if antialias else (-0.75, 2)  # PyTorch's two kernels, and values used beyond either end
    centre_N = (torch.arange(count) + 0.5) * step - 0.5
    distance_NM = (centre_N[:, None] - torch.arange(-beyond, own + beyond)).abs()
    d = distance_NM / step.clamp(min=1) if antialias else distance_NM
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((d - 5) * d + 8) * d * a - 4 * a
    share_NM = torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
    if antialias:
        return share_NM / share_NM.sum(1, keepdim=True)
    ends = (share_NM[:, : beyond + 1], share_NM[:, -beyond - 1 :])
    first, last = (end.sum(1, keepdim=True) for end in ends)
    return torch.cat([first, share_NM[:, beyond + 1 : -beyond - 1], last], 1)
