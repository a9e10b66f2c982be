"""PyTorch's optimisers without the compiler.

Their methods are wrapped for `torch.compile`, and the first call of any imports `torch._dynamo`, which takes a second
of the processor. No optimiser is compiled here, so these call what is wrapped.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class _Eager(Optimizer):
    add_param_group: Any = unwrap(Optimizer.add_param_group)
    zero_grad: Any = unwrap(Optimizer.zero_grad)
    state_dict: Any = unwrap(Optimizer.state_dict)
    load_state_dict: Any = unwrap(Optimizer.load_state_dict)


class SGD(_Eager, torch.optim.SGD):
    step: Any = torch.no_grad()(unwrap(torch.optim.SGD.step))


class AdamW(_Eager, torch.optim.AdamW):
    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def at_rest(optimizer: Optimizer) -> None:
    """Give every parameter of SGD that has no momentum yet one of zero, which its first gradient replaces.

    The fused form takes those that come later, after a warm-up, only beside others that all are as new.
    """
    for group in optimizer.param_groups:
        for p in group["params"] if group.get("momentum") else ():
            state = optimizer.state[p]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(p)
