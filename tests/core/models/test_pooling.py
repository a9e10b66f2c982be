"""Pyramid pooling against PyTorch's own pooling, and against means taken by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.models.decoders.pooling import PyramidPooling, means_of_parts


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("side", [(12, 6), (11, 7), (4, 5), (1, 33)])
def test_means_of_parts_are_adaptive_pooling(bins, side):
    x = torch.randn(2, 3, *side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, bins, bins, dtype=torch.float64)
    ours, theirs = means_of_parts(x, bins), F.adaptive_avg_pool2d(x, bins)
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads)


@torch.no_grad()
def test_the_pyramid_averages_its_parts():
    pyramid = PyramidPooling(8, 5).eval()
    x = torch.randn(1, 8, 6, 12, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    for part in pyramid.parts:
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert pyramid(x).shape == (1, 5, 6, 12)
    for pooled, bins in zip(seen, (2, 3, 6), strict=True):
        h, w = 6 // bins, 12 // bins
        expected = x.reshape(1, 8, bins, h, bins, w).mean((3, 5))
        torch.testing.assert_close(pooled, expected)
