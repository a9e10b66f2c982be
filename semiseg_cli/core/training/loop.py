"""The loop: a step, and on time a log line, an evaluation, a saved state.

It knows no paper and no file format: what to do with a log line, an evaluation or a state is given to it. It waits for
the device only when a log line is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from semiseg_cli.core.data.loader import HostBatch, Plan
from semiseg_cli.core.errors import DataError, Diverged, Interrupted
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.distributed import World, any_process
from semiseg_cli.core.training.finite import IN_A_ROW, Guard, state_of, unfinite
from semiseg_cli.core.training.graph import taking
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import set_learning_rates
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock

HIGH = "usually a learning rate that is too high"


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: rows of the log, evaluation and saving after `step` steps, whether to stop, every step.

    show: the same row after the first step, to be seen and not kept: what is kept does not depend on where a run began.
    note: a line that a user should know. images: names those of the batch of a step, counted from 0.
    """

    log: Callable[[dict[str, Any]], None]
    show: Callable[[dict[str, Any]], object]
    evaluate: Callable[[int], None]
    save: Callable[[int], None]
    stopping: Callable[[], bool]
    advance: Callable[[int], None]
    note: Callable[[str], None] = lambda line: None
    images: Callable[[int], str] = lambda step: ""


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

    Raises Diverged when a loss, a gradient or what would be saved is not finite, Interrupted after saving when
    `hooks.stopping` says so, and what the loader or the evaluation meets after saving what was done, but in several
    processes, where the others do not know.
    """
    train.train()
    meter, began, counted = Meter(), time.perf_counter(), 0
    guard = Guard(train, optimizer, world, skip=config.on_nonfinite == "skip")
    update = Update(train, optimizer, plan, config.grad_clip, meter, world, guard)
    with taking(update, config, hooks.note) as take:
        for step in range(plan.start, plan.steps):
            clock = Clock(step, plan.steps, step * plan.batch / max(epoch_images, 1))
            lr = set_learning_rates(optimizer, step, config)
            try:
                take(batches, clock)
            except DataError:  # before anything of this step was done
                if step > plan.start and world.size == 1 and not _fault(update, hooks, step - counted, step, True):
                    hooks.save(step)
                raise
            done, counted = step + 1, counted + 1
            hooks.advance(done)

            first = done == plan.start + 1
            due = done % config.log_every == 0 or done == plan.steps
            save = done % config.save_every == 0 or done == plan.steps
            evaluate = (bool(config.eval_every) and done % config.eval_every == 0) or done == plan.steps
            stop = any_process(hooks.stopping(), world) if world.size == 1 or due else False
            if first or due or save or evaluate or stop:
                fault = _fault(update, hooks, done - counted, done, saving=save or evaluate or stop)
                if any_process(bool(fault), world):
                    what, why = fault or (f"the loss is not finite between steps {done - counted} and {done}", HIGH)
                    fix = f"a new run with a smaller rate: semiseg train ... -s train.lr={config.lr / 3:.2g}"
                    raise Diverged(what, why=why, fix=fix)
            if first or due:
                means, now = meter.means(), time.perf_counter()
                row = {"step": done, "lr": lr, "epoch": clock.epoch, "steps": counted, "seconds": now - began} | means
                row |= _skipped(guard, hooks, done - counted) if due else {}
                (hooks.log if due else hooks.show)(row)
            if due:
                meter.reset()
                guard.reset()
                counted, began = 0, now
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


def _fault(update: Update, hooks: Hooks, since: int, done: int, saving: bool) -> tuple[str, str] | None:
    """What in this process is not finite after step `done`, and why, told by the log's steps; None: nothing is.

    since: the step of the last log line, or of the start. saving: whether all that would be saved is looked at as well.
    """
    guard = update.guard
    assert guard is not None
    clean, bad, row = guard.read()
    if bad and not guard.skip:
        step = since + clean
        return f"the loss or its gradient is not finite at step {step + 1}", _with_images(hooks, step)
    if row >= IN_A_ROW:
        return f"the last {row} steps were skipped, to step {done}: none is finite", _with_images(hooks, done - 1)
    if not update.meter.finite():
        return f"the loss is not finite between steps {since} and {done}", HIGH
    names = unfinite(state_of(update.train, update.optimizer)) if saving else []
    if names:
        return f"the network is not finite after step {done}", f"{HIGH}; {names[0]} and {len(names) - 1} other tensors"
    return None


def _skipped(guard: Guard, hooks: Hooks, since: int) -> dict[str, int]:
    """How many steps were skipped since the last log line, of which the first is told; empty where none would be."""
    if not guard.skip:
        return {}
    clean, skipped, _ = guard.read()
    if skipped:
        more = f" (and {skipped - 1} more until now)" if skipped > 1 else ""
        images = hooks.images(since + clean)
        hooks.note(f"step {since + clean + 1} was skipped{more}: not finite{images and f'; its images: {images}'}")
    return {"skipped": skipped}


def _with_images(hooks: Hooks, step: int) -> str:
    images = hooks.images(step)
    return f"{HIGH}; its images: {images}" if images else HIGH
