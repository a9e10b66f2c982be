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
