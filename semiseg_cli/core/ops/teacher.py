"""The EMA teacher of mean-teacher methods (Tarvainen and Valpola, 2017, arXiv 1703.01780)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from semiseg_cli.core.networks import Net
from semiseg_cli.core.ops.batchnorm import batch_norms, frozen_statistics
from semiseg_cli.core.types import Moment

Module = TypeVar("Module", bound=nn.Module)


class Rule(NamedTuple):
    """How a teacher follows its student.

    decay: of a step, from the step and the final decay. average_buffers: those of floating point are averaged likewise,
    not copied.
    """

    decay: Callable[[int, float], float]
    average_buffers: bool


def decay(step: int, alpha: float) -> float:
    """min((1 + step) / (10 + step), alpha): short runs are not held back by the first, random weights."""
    return min((1 + step) / (10 + step), alpha)


def from_the_first(step: int, alpha: float) -> float:
    """min(1 - 1 / (step + 1), alpha), UniMatch V2's: the mean of all students until then, of none of the start."""
    return min(1 - 1 / (step + 1), alpha)


USUAL = Rule(decay, average_buffers=False)
FROM_THE_FIRST = Rule(from_the_first, average_buffers=True)


class Teacher(nn.Module, Generic[Module]):
    """A frozen copy of a network, updated by exponential moving average (EMA), and stays in eval mode.

    by_batch: modules of these types stay in training mode: their batch norms normalise with the batch, and leave their
    running statistics to the updates.
    """

    def __init__(self, net: Module, by_batch: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()
        self.net: Module = copy.deepcopy(net).requires_grad_(False)
        self._by_batch = [module for module in self.net.modules() if isinstance(module, by_batch)]
        for module in self._by_batch:
            for norm in batch_norms(module):
                norm.momentum = 0.0
        self.train(False)

    def train(self, mode: bool = True) -> Teacher[Module]:
        super().train(False)
        for module in self._by_batch:
            module.train()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.net(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, moment: Moment, alpha: float, rule: Rule = USUAL) -> None:
        """theta' = d theta' + (1 - d) theta with d = `rule.decay(step, alpha)`. What is not trained is as it was."""
        moved: list[tuple[Tensor, Tensor]] = [
            (own, other)
            for own, other in zip(self.net.parameters(), student.parameters(), strict=True)
            if other.requires_grad
        ]
        copied = list(zip(self.net.buffers(), student.buffers(), strict=True))
        if rule.average_buffers:
            moved += [(own, other) for own, other in copied if own.is_floating_point()]
            copied = [(own, other) for own, other in copied if not own.is_floating_point()]
        ours, theirs = [own for own, _ in moved], [other for _, other in moved]
        share = moment.value(lambda clock: 1.0 - rule.decay(clock.step, alpha), ours[0])
        if share.is_cuda:  # a launch for all, which takes no tensor as a lerp's weight
            difference = torch._foreach_sub(theirs, ours)
            torch._foreach_mul_(difference, share)
            torch._foreach_add_(ours, difference)
        else:
            for own, other in moved:
                own.lerp_(other, share)
        mine, others = [own for own, _ in copied], [other for _, other in copied]
        for dtype in {buffer.dtype for buffer in mine}:  # together: a network has hundreds, and each copy is a launch
            pick = [i for i, buffer in enumerate(mine) if buffer.dtype == dtype]
            torch._foreach_copy_([mine[i] for i in pick], [others[i] for i in pick])


@torch.no_grad()
def labels_by(teacher: Teacher[Net] | None, net: Net, x_B3HW: Tensor) -> Tensor:
    """Logits of weak images: a teacher's; without one, the student's own, whose running statistics stay as they are."""
    if teacher is not None:
        logits: Tensor = teacher(x_B3HW)
        return logits
    with frozen_statistics(net):
        own: Tensor = net(x_B3HW)
    return own
