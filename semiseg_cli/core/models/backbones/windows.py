"""Swin's blocks of timm, with the same values, written so that a graph for images of any size counts windows by one
rounded division: what timm pads and how many windows there are grows into expressions that take minutes to compare."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn import functional as F


class CountedWindows(SwinTransformerBlock):
    """Takes the place of a block of dynamic masks by its class alone; see `counted_windows`."""

    def _attn(self, x: Tensor) -> Tensor:
        """(B, H, W, C), of each window, of a map that is shifted in every second block (Liu et al. 2021, sec. 3.2)."""
        images, height, width, channels = x.shape
        (high, wide), (down, right) = self.window_size, self.shift_size
        rows, columns = (height + high - 1) // high, (width + wide - 1) // wide
        if down or right:
            x = torch.roll(x, (-down, -right), (1, 2))
        x = F.pad(x, (0, 0, 0, columns * wide - width, 0, rows * high - height))
        x = x.view(images, rows, high, columns, wide, channels).transpose(2, 3)
        windows = x.reshape(images * rows * columns, high * wide, channels)
        mask = self._mask(x, rows, columns) if down or right else None
        attended: Tensor = self.attn(windows, mask=mask)
        x = attended.view(images, rows, columns, high, wide, channels).transpose(2, 3)
        x = x.reshape(images, rows * high, columns * wide, channels)[:, :height, :width].contiguous()
        return torch.roll(x, (down, right), (1, 2)) if down or right else x

    def _mask(self, like: Tensor, rows: int, columns: int) -> Tensor:
        """(windows, pixels, pixels): -100 between pixels of a window that the shift has brought together."""
        (high, wide), (down, right) = self.window_size, self.shift_size
        y, x = _regions(rows * high, high, down, like.device), _regions(columns * wide, wide, right, like.device)
        region = (3 * y[:, None] + x).view(rows, high, columns, wide).transpose(1, 2).reshape(-1, high * wide)
        apart = region[:, None] != region[:, :, None]
        return like.new_zeros(()).expand(apart.shape).masked_fill(apart, -100.0)


def counted_windows(net: nn.Module) -> None:
    """Have all Swin blocks in it that take images of any size count their windows so."""
    for module in net.modules():
        if type(module) is SwinTransformerBlock and module.dynamic_mask:
            module.__class__ = CountedWindows


def _regions(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    """0 to 2 for the pixels of a side: before the last window, and before and after where the shift wraps."""
    place = torch.arange(side, device=device)
    return (place >= side - window).long() + (place >= side - shift) if shift else torch.zeros_like(place)
