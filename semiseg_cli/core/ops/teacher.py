"""The EMA teacher of mean-teacher methods (Tarvainen and Valpola, 2017, arXiv 1703.01780)."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class Teacher(nn.Module, Generic[Module]):
    """A frozen copy of a network, updated by exponential moving average (EMA), and stays in eval mode."""

    def __init__(self, net: Module) -> None:
        super().__init__()
        self.net: Module = copy.deepcopy(net).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Teacher[Module]:
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.net(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, step: int, alpha: float) -> None:
        """theta' = d theta' + (1 - d) theta with d = `decay(step, alpha)`; buffers are copied."""
        ours: list[Tensor] = [*self.net.parameters()]
        theirs: list[Tensor] = [*student.parameters()]
        torch._foreach_lerp_(ours, theirs, 1.0 - decay(step, alpha))
        mine, others = [*self.net.buffers()], [*student.buffers()]
        for dtype in {buffer.dtype for buffer in mine}:  # together: a network has hundreds, and each copy is a launch
            pick = [i for i, buffer in enumerate(mine) if buffer.dtype == dtype]
            torch._foreach_copy_([mine[i] for i in pick], [others[i] for i in pick])


def decay(step: int, alpha: float) -> float:
    """min((1 + step) / (10 + step), alpha): short runs are not held back by the first, random weights."""
    return min((1 + step) / (10 + step), alpha)


