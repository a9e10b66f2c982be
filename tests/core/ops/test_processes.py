"""Sums over processes where there is one; where there are two, see tests/core/training/test_distributed.py."""

from __future__ import annotations

import pytest
import torch

from semiseg_cli.core.ops.processes import gathered, per_micro_batch, summed


def test_alone_a_sum_is_the_tensor_itself() -> None:
    x = torch.ones(3)
    assert summed(x) is x
    assert gathered(x, 0) is x


def test_a_micro_batch_is_divided_by_its_share_of_the_whole() -> None:
    """The mean over micro-batches of sum / share is the mean over everything."""
    counted = torch.rand(6, 4, 5) > 0.4
    values = torch.rand(6, 4, 5) * counted
    parts = [values[i : i + 2].sum() / per_micro_batch(counted, 2) for i in (0, 2, 4)]
    assert torch.stack(parts).mean().item() == pytest.approx((values.sum() / counted.sum()).item(), rel=1e-6)
    assert per_micro_batch(counted, 6) == counted.sum()
    assert per_micro_batch(torch.zeros(2, 3, dtype=torch.bool), 2) == 1
    weights = torch.rand(4, 3)
    assert per_micro_batch(weights, 2).item() == pytest.approx(weights.sum().item() / 2)
