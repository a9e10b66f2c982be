"""Sums over processes where there is one; where there are two, see tests/core/training/test_distributed.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semiseg_cli.core.ops.processes import gathered, idle, summed


def test_alone_a_sum_is_the_tensor_itself() -> None:
    x = torch.ones(3)
    assert summed(x) is x
    assert gathered(x, 0) is x


def test_idle_modules_get_gradients_of_zero() -> None:
    layer = nn.Linear(2, 3)
    zero = idle(layer, None)
    assert isinstance(zero, Tensor)
    zero.backward()
    assert zero.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
    assert idle(None) == 0
