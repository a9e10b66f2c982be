"""DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611), as the field's semi-supervised methods wire it.

The width follows the deep map's channels, see `width`. There is no dropout; every upsampling is bilinear, in register,
which at sides of 16 n + 1 is the field's align_corners=True, unless that or nearest is asked for. Convolutions keep
PyTorch's initialisation, as in the field's code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import ConvNormReLU, ImagePooling, Upsample
from semiseg_cli.core.networks import PYRAMID, Decoder

RATES = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}  # of the context's 3x3 convolutions, by the deep map's stride
LOW_WIDTH = 48  # of the low-level map


def width(deep_channels: int) -> int:
    """Channels of the context module and of the fusing convolutions alike.

    The field's rule is an eighth of the deep map (256 of 2,048). An eighth starves the small backbones: they have 64,
    and `tiny` 48. Fusing with 256 channels at stride 4 would be nine tenths of a MobileNetV2's cost.
    """
    return 48 if deep_channels < 256 else max(deep_channels // 8, 64)


class ContextModule(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1, three dilated 3x3 and the image's mean, concatenated, then a 1x1."""

    def __init__(self, channels: int, out: int, rates: Sequence[int]) -> None:
        super().__init__()
        dilated = [ConvNormReLU(channels, out, 3, rate) for rate in rates]
        self.branches = nn.ModuleList([ConvNormReLU(channels, out), *dilated, ImagePooling(channels, out)])
        self.project = ConvNormReLU(out * len(self.branches), out)

    def forward(self, x_BChw: Tensor) -> Tensor:
        out: Tensor = self.project(torch.cat([branch(x_BChw) for branch in self.branches], 1))
        return out


class DeepLabV3Plus(Decoder):
    """Context of the deep map, fused with the low-level map at stride 4, classified there.

    The first map is the low-level one, the last the deep one.
    """

    need = PYRAMID

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        out = width(channels[-1])
        self.widths = {"context": out, "fused": out}
        self.context = ContextModule(channels[-1], out, RATES[strides[-1]])
        self.low = ConvNormReLU(channels[0], LOW_WIDTH)
        self.fuse = nn.Sequential(ConvNormReLU(LOW_WIDTH + out, out, 3), ConvNormReLU(out, out, 3))
        self.classifier = nn.Conv2d(out, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The context of the deep map, and the classifier's input at stride 4."""
        context, low = self.context(maps[-1]), self.low(maps[0])
        return context, self.fuse(torch.cat([low, self.upsample(context, (low.shape[2], low.shape[3]))], 1))
