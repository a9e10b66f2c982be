"""UPerNet: its parameters as published, and its levels once more in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.models.decoders.upernet import UPerNet, width


@pytest.mark.parametrize(("channels", "expected"), [(2048, 512), (768, 512), (512, 128), (320, 80), (128, 48)])
def test_widths(channels: int, expected: int) -> None:
    assert width(channels) == expected


@torch.no_grad()
def test_levels_are_added_from_the_coarsest_down_and_fused() -> None:
    """Maps of 16 n + 1 pixels, where being in register and aligning corners are the same."""
    decoder = UPerNet((4, 6, 8, 16), (4, 8, 16, 32), 3).double().eval()
    random = torch.Generator().manual_seed(0)
    for norm in (m for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)):
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            value.uniform_(0.5, 1.5, generator=random)
    sizes = ((4, 33, 17), (6, 17, 9), (8, 9, 5), (16, 5, 3))
    maps = [torch.randn(2, *size, dtype=torch.float64, generator=random) for size in sizes]

    def block(x: Tensor, part: nn.Sequential) -> Tensor:
        conv, norm = part[0], part[1]
        y = F.conv2d(x, conv.weight, padding=conv.kernel_size[0] // 2)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return F.relu((y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None])

    def to(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)

    above = decoder.context(maps[3])
    levels = [above]
    for i in (2, 1, 0):
        above = block(maps[i], decoder.lateral[i]) + to(above, maps[i])
        levels.append(block(above, decoder.smooth[i]))
    fused = block(torch.cat([to(level, maps[0]) for level in reversed(levels)], 1), decoder.fuse)
    out = decoder(maps, (129, 65))
    torch.testing.assert_close(out.fused, fused, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out.context, levels[0])
