"""Batch norm that does not count, and one that uses the batch's statistics and leaves its running ones alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg_cli.core.ops.batchnorm import BatchNorm2d, evaluating, frozen_statistics


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=None)).train()


def running(module: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for name, t in module.named_buffers() if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("training", [True, False])
def test_it_is_pytorchs_without_the_count(training: bool) -> None:
    ours, theirs = BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=0.3)
    for norm in (ours, theirs):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
        norm(torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)))
        norm.train(training)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(a, b) for a, b in zip(running(ours), running(theirs), strict=True))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert (ours.num_batches_tracked, theirs.num_batches_tracked) == (0, 1 + training)


def test_running_statistics_stay() -> None:
    module, x = net(), torch.randn(4, 2, 5, 5)
    module(x)  # away from their first values
    before = running(module)
    with frozen_statistics(module):
        still = module(3 * x + 1)
    assert all(torch.equal(a, b) for a, b in zip(before, running(module), strict=True))
    assert torch.equal(still, module(3 * x + 1))  # the statistics of the batch, as ever
    assert not any(torch.equal(a, b) for a, b in zip(before, running(module), strict=True))


def test_momentum_comes_back_after_an_exception() -> None:
    module = net()
    with pytest.raises(ValueError, match="expected 4D"), frozen_statistics(module[:2], module[2]):
        module[1](torch.zeros(2, 3))
    assert module[1].momentum == 0.3
    assert module[2].momentum is None


def test_evaluation_for_a_while() -> None:
    module, x = net(), torch.randn(4, 2, 5, 5)
    before = running(module)
    with evaluating(module):
        alone, together = module(x[:1]), module(x)
    assert torch.allclose(alone, together[:1], atol=1e-6)  # no statistics of the batch
    assert all(torch.equal(a, b) for a, b in zip(before, running(module), strict=True))
    assert all(m.training for m in module.modules())


def test_training_comes_back_after_an_exception() -> None:
    module = net()
    with pytest.raises(ValueError, match="expected 4D"), evaluating(module):
        module[1](torch.zeros(2, 3))
    assert all(m.training for m in module.modules())
