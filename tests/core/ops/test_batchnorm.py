"""Batch norm that uses the batch's statistics and leaves its running ones alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg_cli.core.ops.batchnorm import still_statistics


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=None)).train()


def running(module: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for name, t in module.named_buffers() if not name.endswith("num_batches_tracked")]


def test_running_statistics_stay() -> None:
    module, x = net(), torch.randn(4, 2, 5, 5)
    module(x)  # away from their first values
    before = running(module)
    with still_statistics(module):
        still = module(3 * x + 1)
    assert all(torch.equal(a, b) for a, b in zip(before, running(module), strict=True))
    assert torch.equal(still, module(3 * x + 1))  # the statistics of the batch, as ever
    assert not any(torch.equal(a, b) for a, b in zip(before, running(module), strict=True))


def test_momentum_comes_back_after_an_exception() -> None:
    module = net()
    with pytest.raises(ValueError, match="expected 4D"), still_statistics(module[:2], module[2]):
        module[1](torch.zeros(2, 3))
    assert module[1].momentum == 0.3
    assert module[2].momentum is None
