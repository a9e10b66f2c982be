"""The network of GuidedMix-Net (Tu et al., AAAI 2022, arXiv 2112.14015): pyramid pooling, then MITrans blocks.

A MITrans block lets every position of a map look at all others (a non-local block, eq. 5), doubles the map's size by
a convolution and PixelShuffle, and fuses it with the encoder's next finer map (fig. 3). From output stride 32 there
are three: to strides 16, 8 and 4. The classifier works at stride 4; the rest of the way is bilinear.

The paper gives no widths behind the pyramid's 512 of 2,048 channels: each block has half the channels of the one
before, at least 48. `mitrans_local` is the same network without the attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.models.decoders.blocks import ConvNormReLU, Upsample
from semiseg_cli.core.models.decoders.pooling import PyramidPooling
from semiseg_cli.core.networks import PYRAMID, Decoder

LEAST = 48  # channels


class NonLocal(nn.Module):
    """v'_n = sum_m softmax_m(Q_n . K_m) V_m + v_n over all positions m (eq. 5). Q and K have half the channels.

    V, which has all of them, is taken as two heads that share Q and K: all three are then equally wide, which the
    attention kernels need that never hold the matrix of positions by positions, as is `contiguous`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 2, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, v_BChw: Tensor) -> Tensor:
        query, key, value = (
            conv(v_BChw).flatten(2).unflatten(1, (heads, -1)).transpose(2, 3).contiguous().expand(-1, 2, -1, -1)
            for conv, heads in ((self.query, 1), (self.key, 1), (self.value, 2))
        )
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return v_BChw + found.transpose(2, 3).reshape(v_BChw.shape)


class MITrans(nn.Module):
    """Attention, then the map `factor` times larger (cut to the finer map's size) fused with the finer map."""

    def __init__(self, channels: int, skip: int, out: int, factor: int, attention: bool) -> None:
        super().__init__()
        self.attention = NonLocal(channels) if attention else nn.Identity()
        self.expand = nn.Sequential(ConvNormReLU(channels, out * factor**2), nn.PixelShuffle(factor))
        self.skip = ConvNormReLU(skip, out)
        self.fuse = ConvNormReLU(2 * out, out, 3)

    def forward(self, v_BChw: Tensor, finer_BCHW: Tensor) -> Tensor:
        height, width = finer_BCHW.shape[2:]
        larger = self.expand(self.attention(v_BChw))[:, :, :height, :width]
        out: Tensor = self.fuse(torch.cat([larger, self.skip(finer_BCHW)], 1))
        return out


class MITransDecoder(Decoder):
    """Pyramid pooling of the deep map, a MITrans block for every finer one, a classifier at stride 4.

    The paper's deep map is at stride 32.
    """

    need = PYRAMID
    attention = True  # False leaves the non-local blocks out and nothing else

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        width = max(channels[-1] // 4, LEAST)
        self.context = PyramidPooling(channels[-1], width)
        self.blocks = nn.ModuleList()
        for skip, (fine, coarse) in reversed(list(zip(channels[:-1], pairwise(strides), strict=True))):
            out = max(width // 2, LEAST)
            self.blocks.append(MITrans(width, skip, out, coarse // fine, self.attention))
            width = out
        self.widths = {"context": max(channels[-1] // 4, LEAST), "fused": width}
        self.classifier = nn.Conv2d(width, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The pyramid's output, and the classifier's input at stride 4."""
        context = fused = self.context(maps[-1])
        for block, finer in zip(self.blocks, reversed(maps[:-1]), strict=True):
            fused = block(fused, finer)
        return context, fused


class MITransLocal(MITransDecoder):
    """For the paper's table 2."""

    attention = False
