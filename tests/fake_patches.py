"""An encoder that cuts images into patches of 14 x 14, and a decoder for it: what a plain transformer asks of the rest.

`patches` makes them known as the backbone `patches` and the decoder `plain`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import Upsample
from semiseg_cli.core.models.names import BACKBONES, DECODERS, Backbone
from semiseg_cli.core.networks import EQUAL, Decoder, Encoder

SIDE = 14


class Patches(Encoder):
    """Four maps of one stride; it refuses what it cannot cut."""

    channels, strides, multiple = (8,) * 4, (SIDE,) * 4, SIDE
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, SIDE, SIDE)
        self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(4)])

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        assert not any(side % SIDE for side in image_B3HW.shape[2:]), image_B3HW.shape
        maps = [self.embed(image_B3HW)]
        for block in self.blocks:
            maps.append(maps[-1] + block(maps[-1]).tanh())
        return maps[1:]


class Plain(Decoder):
    """A classifier of all maps side by side."""

    need = EQUAL

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        width = sum(channels)
        self.widths = {"context": width, "fused": width}
        self.classifier = nn.Conv2d(width, classes, 1)
        self.upsample = Upsample(strided=False)

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fused = torch.cat(list(maps), 1)
        return fused, fused


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> type[Patches]:
    monkeypatch.setitem(BACKBONES, "patches", Backbone("fake_patches:Patches"))
    monkeypatch.setitem(DECODERS, "plain", "fake_patches:Plain")
    return Patches
