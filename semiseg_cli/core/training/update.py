"""One step of training: micro-batches, passes, the optimiser's step and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from semiseg_cli.core.data.loader import HostBatch, Plan
from semiseg_cli.core.training.distributed import World, average_gradients
from semiseg_cli.core.training.finite import Guard
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.step import Step, Train
from semiseg_cli.core.types import Clock, Moment

Lap = Callable[[str], None]


def unmeasured(part: str) -> None:
    """No lap."""


@dataclass(frozen=True)
class Update:
    """Everything that takes part in a step, and the step itself, operator by operator.

    lap: told the name of each part that has just been done, for measurements. guard: None: whether numbers are finite
    is not looked at.
    """

    train: Train
    optimizer: torch.optim.Optimizer
    plan: Plan
    grad_clip: float
    meter: Meter
    world: World
    guard: Guard | None = None

    def __call__(self, batches: Iterator[HostBatch], clock: Clock, lap: Lap = unmeasured) -> None:
        """Take the step of a clock, with the next micro-batches."""
        hosts = self.fetch(batches)
        self.seed(clock)
        lap("data")
        self.learn(hosts, clock, self.train.staged(clock), lap)
        self.train.method.settle(clock)

    def fetch(self, batches: Iterator[HostBatch]) -> list[HostBatch]:
        return [next(batches) for _ in range(self.plan.accumulation)]

    def seed(self, clock: Clock) -> None:
        """PyTorch's generators, for whatever draws from them: dropout in somebody's network. Views draw by key."""
        state = np.random.SeedSequence([self.plan.seed, clock.step, self.plan.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def learn(self, hosts: list[HostBatch], clock: Clock, moment: Moment, lap: Lap = unmeasured) -> None:
        """Accumulate the gradients of all micro-batches and passes, then step the optimiser and the method.

        This part of a step can be captured: it neither reads nor writes anything on the host that another step would
        have different. clock: names the stage of the method, and is told to nobody; moment: what the step knows of it.
        """
        plan, guard, rows = self.plan, self.guard, list[dict[str, Tensor]]()
        if guard:
            guard.hold()
        if pool := self.train.pool:
            hosts = [pool.cut(host, plan.crop) for host in hosts]
        step = Step(hosts, plan.step_slots) if len(hosts) > 1 else None
        for part, host in enumerate(hosts):
            row: dict[str, Tensor] = {}
            for out in self.train(host, clock, plan.slots(part), plan.batch, step, moment):
                total = torch.stack(list(out.losses.values())).sum()
                lap("forward")
                (total / len(hosts)).backward()
                whole = total.detach() + row.get("loss", 0.0)
                row |= {"loss": whole, **{f"loss_{k}": v.detach() for k, v in out.losses.items()}, **out.stats}
                del out, total  # what they hold would lie beside the next pass
                lap("backward")
            rows.append(row)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        average_gradients(parameters, self.world)
        good = guard.judge([row["loss"] for row in rows]) if guard else None
        for row in rows:
            self.meter.add(row, good if guard and guard.skip else None)
        if self.grad_clip:
            nn.utils.clip_grad_norm_(parameters, self.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        lap("optimiser")
        self.train.method.after_step(moment)
        if guard and good is not None:
            guard.undo(good)
        lap("after_step")
