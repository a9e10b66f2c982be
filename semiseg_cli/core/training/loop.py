"""The loop: micro-batches, passes, one optimiser step, and on time a log line, an evaluation, a saved state.

It knows no paper and no file format: what to do with a log line, an evaluation or a state is given to it. It waits for
the device only when a log line is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semiseg_cli.core.data.loader import HostBatch, Plan
from semiseg_cli.core.errors import DataError, Diverged, Interrupted
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.distributed import World, any_process, average_gradients
from semiseg_cli.core.training.optim import set_learning_rates
from semiseg_cli.core.training.step import Step, Train
from semiseg_cli.core.types import Clock


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: rows of the log, evaluation and saving after `step` steps, whether to stop, every step.

    show: the same row after the first step, to be seen and not kept: what is kept does not depend on where a run began.
    """

    log: Callable[[dict[str, Any]], None]
    show: Callable[[dict[str, Any]], object]
    evaluate: Callable[[int], None]
    save: Callable[[int], None]
    stopping: Callable[[], bool]
    advance: Callable[[int], None]


@dataclass
class Meter:
    """Sums of losses and stats on the device since the last log line; reading them is the only wait.

    A value is a scalar, or a vector with an entry for each class.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def finite(self) -> bool:
        return all(math.isfinite(value) for values in self._read() for value in values)

    def means(self) -> dict[str, float | list[float]]:
        """The mean of each by name: a number, of a vector a list."""
        row: dict[str, float | list[float]] = {}
        for (name, total), values in zip(self.sums.items(), self._read(), strict=True):
            means = [value / self.counts[name] for value in values]
            row[name] = means if total.dim() else means[0]
        return row

    def _read(self) -> list[list[float]]:
        """Every sum's entries, in one transfer."""
        if not self.sums:
            return []
        flat: list[float] = torch.cat([total.flatten() for total in self.sums.values()]).tolist()
        numbers = iter(flat)
        return [list(islice(numbers, total.numel())) for total in self.sums.values()]


def fit(
    train: Train,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[HostBatch],
    plan: Plan,
    config: TrainConfig,
    world: World,
    hooks: Hooks,
    epoch_images: int,
) -> None:
    """Run steps `plan.start` to `plan.steps`.

    Raises Diverged when a loss is not finite, Interrupted after saving when `hooks.stopping` says so, and what the
    loader or the evaluation meets after saving what was done, but in several processes, where the others do not know.
    """
    train.train()
    meter, began, counted = Meter(), time.perf_counter(), 0
    for step in range(plan.start, plan.steps):
        clock = Clock(step, plan.steps, step * plan.batch / max(epoch_images, 1))
        lr = set_learning_rates(optimizer, step, config)
        try:
            one_step(train, optimizer, batches, plan, clock, config.grad_clip, meter, world)
        except DataError:  # before anything of this step was done
            if step > plan.start and world.size == 1 and meter.finite():
                hooks.save(step)
            raise
        done, counted = step + 1, counted + 1
        hooks.advance(done)

        first = done == plan.start + 1
        due = done % config.log_every == 0 or done == plan.steps
        save = done % config.save_every == 0 or done == plan.steps
        evaluate = (bool(config.eval_every) and done % config.eval_every == 0) or done == plan.steps
        stop = any_process(hooks.stopping(), world) if world.size == 1 or due else False
        if (first or due or save or evaluate or stop) and any_process(not meter.finite(), world):
            raise Diverged(
                f"the loss is not finite between steps {done - counted} and {done}",
                why="usually a learning rate that is too high",
                fix=f"a new run with a smaller rate: semiseg train ... -s train.lr={config.lr / 3:.2g}",
            )
        if first or due:
            means, now = meter.means(), time.perf_counter()
            row = {"step": done, "lr": lr, "epoch": clock.epoch, "steps": counted, "seconds": now - began} | means
            (hooks.log if due else hooks.show)(row)
        if due:
            meter, counted, began = Meter(), 0, now
        pause = time.perf_counter()
        if evaluate:
            try:
                hooks.evaluate(done)
            except DataError:
                if world.size == 1:
                    hooks.save(done)
                raise
        if save or stop:
            hooks.save(done)
        began += time.perf_counter() - pause
        if stop and done < plan.steps:
            raise Interrupted(f"stopped after step {done}; the state is saved")


def one_step(
    train: Train,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[HostBatch],
    plan: Plan,
    clock: Clock,
    grad_clip: float,
    meter: Meter,
    world: World,
    lap: Callable[[str], None] = lambda part: None,
) -> None:
    """Accumulate the gradients of all micro-batches and passes, then step the optimiser and the method.

    lap: told the name of each part that has just been done, for measurements.
    """
    parts = plan.accumulation
    hosts = [next(batches) for _ in range(parts)]
    step = Step(hosts, plan.step_slots) if parts > 1 else None
    seed_generators(plan, clock)
    lap("data")
    for part, host in enumerate(hosts):
        row: dict[str, Tensor] = {}
        for out in train(host, clock, plan.slots(part), plan.batch, step):
            total = torch.stack(list(out.losses.values())).sum()
            lap("forward")
            (total / parts).backward()
            whole = total.detach() + row.get("loss", 0.0)
            row |= {"loss": whole, **{f"loss_{k}": v.detach() for k, v in out.losses.items()}, **out.stats}
            del out, total  # what they hold would lie beside the next pass
            lap("backward")
        meter.add(row)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters, world)
    if grad_clip:
        nn.utils.clip_grad_norm_(parameters, grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    lap("optimiser")
    train.method.after_step(clock)
    lap("after_step")


def seed_generators(plan: Plan, clock: Clock) -> None:
    """PyTorch's generators, for whatever draws from them: dropout in somebody's network. Views draw by key."""
    torch.manual_seed(int(np.random.SeedSequence([plan.seed, clock.step, plan.rank]).generate_state(1)[0]))
