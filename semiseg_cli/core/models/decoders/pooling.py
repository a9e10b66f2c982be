"""Pyramid pooling (Zhao et al., CVPR 2017, arXiv 1612.01105): a map beside its means over larger and larger parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import ConvNormReLU, ImagePooling, Upsample

BINS = (2, 3, 6)  # of the pyramid, beside the image's mean


class PyramidPooling(nn.Module):
    """Means over 1, 2 x 2, 3 x 3 and 6 x 6 parts of the map beside the map itself (Zhao et al., CVPR 2017)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        branch = channels // (len(BINS) + 1)
        self.whole = ImagePooling(channels, branch)
        self.parts = nn.ModuleList([ConvNormReLU(channels, branch) for _ in BINS])
        self.project = ConvNormReLU(channels + branch * (len(BINS) + 1), out, 3)
        self.upsample = Upsample(strided=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        size = (x_BChw.shape[2], x_BChw.shape[3])
        pooled = [means_of_parts(x_BChw, bins) for bins in BINS]
        parts = [self.upsample(part(x), size) for part, x in zip(self.parts, pooled, strict=True)]
        out: Tensor = self.project(torch.cat([x_BChw, self.whole(x_BChw), *parts], 1))
        return out


def means_of_parts(x_BChw: Tensor, bins: int) -> Tensor:
    """The means over bins x bins parts, (B, C, bins, bins): `adaptive_avg_pool2d`, whose gradient does not repeat
    exactly on CUDA, as products. Parts overlap where `bins` does not divide a side.
    """
    down, across = (_parts(side, bins, x_BChw) for side in x_BChw.shape[2:])
    sums = torch.einsum("ih,bchw,jw->bcij", down, x_BChw, across)
    return sums / (down.sum(1)[:, None] * across.sum(1))


def _parts(side: int, bins: int, like: Tensor) -> Tensor:
    """(bins, side): 1 where a place belongs to a part, else 0."""
    part, place = torch.arange(bins, device=like.device)[:, None], torch.arange(side, device=like.device)
    first, behind = part * side // bins, ((part + 1) * side + bins - 1) // bins
    return ((place >= first) & (place < behind)).to(like.dtype)
