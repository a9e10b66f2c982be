"""The smallest network that has everything: a pyramid of maps, context, fusing, batch norms. A step takes milliseconds.

`small_network` makes it known as the backbone `small` and the decoder `small` (and `plain`, without
batch norms); `SMALL` is the spec of both. `TINY` is the smallest of the product's own networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import ConvNormReLU, Upsample
from semiseg_cli.core.models.names import BACKBONES, DECODERS, Backbone
from semiseg_cli.core.networks import PYRAMID, Decoder, Encoder

WIDTH = 6
SMALL: dict[str, Any] = {"backbone": "small", "decoder": "small", "output_stride": 16}
TINY: dict[str, Any] = {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16}
IS_TINY: dict[str, Any] = {"model.backbone": "tiny", "model.decoder": "auto"}  # settings that bring it


class SmallEncoder(Encoder):
    channels, strides = (WIDTH,) * 3, (4, 8, 16)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList([ConvNormReLU(3 if i == 0 else WIDTH, WIDTH, 3) for i in range(4)])
        for half in self.halves:
            half[0].stride = (2, 2)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        maps = [image_B3HW]
        for half in self.halves:
            maps.append(half(maps[-1]))
        return maps[2:]


class SmallDecoder(Decoder):
    need = PYRAMID

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.widths = {"context": WIDTH, "fused": WIDTH}
        self.context = ConvNormReLU(channels[-1], WIDTH)
        self.fuse = ConvNormReLU(channels[0] + WIDTH, WIDTH, 3)
        self.classifier = nn.Conv2d(WIDTH, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context, low = self.context(maps[-1]), maps[0]
        return context, self.fuse(torch.cat([low, self.upsample(context, (low.shape[2], low.shape[3]))], 1))


class PlainDecoder(Decoder):
    """Without batch norms, so that a batch may be divided."""

    need = PYRAMID

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.widths = {"context": WIDTH, "fused": WIDTH}
        self.classifier = nn.Conv2d(WIDTH, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        low = maps[0]
        return maps[-1], low + self.upsample(maps[-1], (low.shape[2], low.shape[3]))


@contextmanager
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "small", Backbone("fake_small:SmallEncoder"))
        patch.setitem(DECODERS, "small", "fake_small:SmallDecoder")
        patch.setitem(DECODERS, "plain", "fake_small:PlainDecoder")
        yield


@pytest.fixture(scope="module")
def tiny_is_small() -> Iterator[None]:
    """What is typed and printed as `tiny` is the small network: for tests that look at words, not at values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", Backbone("fake_small:SmallEncoder"))
        patch.setitem(DECODERS, "deeplabv3plus", "fake_small:SmallDecoder")
        yield


@pytest.fixture(scope="module")
def small_network() -> Iterator[dict[str, Any]]:
    with known():
        yield SMALL
