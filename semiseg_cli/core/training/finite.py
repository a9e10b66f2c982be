"""Numbers that are not finite: noticed in every step on the device, without a wait, and kept out of what is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from semiseg_cli.core.training.distributed import World

IN_A_ROW = 20  # skipped steps after which a run is no longer one that met a bad batch


class Guard:
    """Notes which steps had a loss or a gradient that is not finite; with `skip` such a step leaves all as it was.

    All of it is operators on memory that stays where it is, so that a captured step has them too. `bad`: 1.0 where the
    step at hand is such a step, else 0.0; PyTorch's fused optimisers call it `found_inf`, and do nothing where it is 1.
    With `skip` all processes have the same `bad`, and what the optimiser does not own (teachers, running statistics,
    memories) is copied before every step. tally: what was counted before the run was resumed.
    """

    def __init__(
        self,
        train: nn.Module,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        skip: bool,
        tally: Tensor | None = None,
    ) -> None:
        self.optimizer, self.world, self.skip = optimizer, world, skip
        self.bad = torch.zeros((), device=world.device)
        # steps before the first bad one; bad ones; now, in a row
        self.tally = torch.zeros(3, device=world.device) if tally is None else tally
        self.own: list[Tensor] = []
        if skip:
            optimizer.found_inf = self.bad  # type: ignore[attr-defined]
            learned = {id(p) for p in self.parameters}
            self.own = [x for x in (*train.parameters(), *train.buffers()) if id(x) not in learned]
        self.held = [x.detach().clone() for x in self.own]

    @property
    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def hold(self) -> None:
        """Before a step: remember what it may change."""
        for before, own in zip(self.held, self.own, strict=True):
            before.copy_(own)

    @torch.no_grad()
    def judge(self, losses: Sequence[Tensor]) -> Tensor:
        """After the last backward pass: whether the step is good, as a tensor of one truth."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        largest = torch._foreach_norm(gradients, torch.inf) if gradients else ()
        good = torch.stack([*(x.detach().float() for x in losses), *(x.float() for x in largest)]).isfinite().all()
        self.bad.copy_(~good)
        if self.skip and self.world.size > 1:
            dist.all_reduce(self.bad, dist.ReduceOp.MAX)
            good = self.bad == 0
        clean, found, row = self.tally.unbind()
        found += self.bad
        clean += found == 0
        row.add_(1).mul_(self.bad)
        return good

    @torch.no_grad()
    def undo(self, good: Tensor) -> None:
        """After a step: put back what was there before, unless it is good. The optimiser has left its own alone."""
        for before, own in zip(self.held, self.own, strict=True):
            own.copy_(torch.where(good, own, before))

    def read(self) -> tuple[int, int, int]:
        """Steps before the first bad one, and bad ones, both since `reset`; bad ones in a row until now. Waits."""
        clean, found, row = (int(number) for number in self.tally.tolist())
        return clean, found, row

    def reset(self) -> None:
        """Begin to count anew, after a log line."""
        self.tally[:2].zero_()


def state_of(train: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that a resume state holds, by name."""
    tensors = {f"train/{name}": x for name, x in train.state_dict().items()}
    for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{name}"] = value
    return tensors


def unfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a number that is not finite. One wait for the device."""
    floating = {name: x for name, x in tensors.items() if x.is_floating_point() and x.numel()}
    if not floating:
        return []
    largest = torch.stack([x.float() for x in torch._foreach_norm(list(floating.values()), torch.inf)])
    finite = largest.isfinite().tolist()
    return [name for name, good in zip(floating, finite, strict=True) if not good]
