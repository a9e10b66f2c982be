"""UPerNet (Xiao et al., ECCV 2018, arXiv 1807.10221): pyramid pooling, a feature pyramid, all its levels fused.

The coarsest map goes through pyramid pooling; from there down, each level is a finer map of the encoder plus what is
above it, enlarged (Lin et al., CVPR 2017, arXiv 1612.03144). All levels, enlarged to the finest, are fused and
classified at stride 4. Without the auxiliary head that others train beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import ConvNormReLU, Upsample
from semiseg_cli.core.models.decoders.pooling import PyramidPooling
from semiseg_cli.core.networks import PYRAMID, Decoder


def width(deep_channels: int) -> int:
    """Channels of every level: 512 as published, for encoders of the size that it is published for; else a quarter.

    512 channels at stride 4 would be most of the cost of a small encoder's network.
    """
    return 512 if deep_channels >= 768 else max(deep_channels // 4, 48)


class UPerNet(Decoder):
    need = PYRAMID

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        out = width(channels[-1])
        self.widths = {"context": out, "fused": out}
        self.context = PyramidPooling(channels[-1], out)
        self.lateral = nn.ModuleList([ConvNormReLU(c, out) for c in channels[:-1]])
        self.smooth = nn.ModuleList([ConvNormReLU(out, out, 3) for _ in channels[:-1]])
        self.fuse = ConvNormReLU(out * len(channels), out, 3)
        self.classifier = nn.Conv2d(out, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The pooled pyramid at the last stride, and the fused levels at stride 4."""
        context = above = self.context(maps[-1])
        levels = [context]
        for x, lateral, smooth in reversed(list(zip(maps, self.lateral, self.smooth, strict=False))):
            above = lateral(x) + self.upsample(above, _size(x))
            levels.insert(0, smooth(above))
        return context, self.fuse(torch.cat([self.upsample(level, _size(maps[0])) for level in levels], 1))


def _size(x_BChw: Tensor) -> tuple[int, int]:
    return x_BChw.shape[2], x_BChw.shape[3]
