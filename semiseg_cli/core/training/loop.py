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
from semiseg_cli.core.errors import DataError, Diverged, Interrupted, WorkerLost
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.distributed import Agreement, World, any_process, averaged
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
    evaluate: whether it came to its end; it breaks off where somebody asked to stop. stopping: whether this process was
    asked to. note: a line that a user should know. images: names those of the batch of a step, counted from 0.
    enough: whether the evaluations say that the run ends here; the same in all processes.
    """

    log: Callable[[dict[str, Any]], None]
    show: Callable[[dict[str, Any]], object]
    evaluate: Callable[[int], bool]
    save: Callable[[int], None]
    stopping: Callable[[], bool]
    advance: Callable[[int], None]
    note: Callable[[str], None] = lambda line: None
    images: Callable[[int], str] = lambda step: ""
    enough: Callable[[], bool] = lambda: False


def fit(
    train: Train,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[HostBatch],
    plan: Plan,
    config: TrainConfig,
    world: World,
    hooks: Hooks,
    epoch_images: int,
    meter: Meter | None = None,
) -> None:
    """Run steps `plan.start` to `plan.steps`. meter: of the steps since the last log line, where it was before `start`.

    Raises Diverged when a loss, a gradient or what would be saved is not finite, Interrupted after saving when
    `hooks.stopping` says so, and what the loader or the evaluation meets after saving what was done, but in several
    processes, where the others do not know.
    """
    train.train()
    meter, stopped = Meter() if meter is None else meter, Agreement(world)
    guard = Guard(train, optimizer, world, skip=config.on_nonfinite == "skip", tally=meter.tally)
    meter.tally = guard.tally
    update, began = Update(train, optimizer, plan, config.grad_clip, meter, world, guard), time.perf_counter()
    with taking(update, config, hooks.note) as take:
        for step in range(plan.start, plan.steps):
            clock = Clock(step, plan.steps, step * plan.batch / max(epoch_images, 1))
            lr = set_learning_rates(optimizer, step, config)
            try:
                take(batches, clock)
            except (DataError, WorkerLost):  # before anything of this step was done
                if step > plan.start and world.size == 1 and not _fault(update, hooks, step, saving=True):
                    hooks.save(step)
                raise
            done = step + 1
            meter.steps += 1
            hooks.advance(done)

            first = done == plan.start + 1
            due = done % config.log_every == 0 or done == plan.steps
            save = done % config.save_every == 0 or done == plan.steps
            evaluate = (bool(config.eval_every) and done % config.eval_every == 0) or done == plan.steps
            stop = stopped(hooks.stopping())
            if not (first or due or save or evaluate or stop):
                continue
            fault = _fault(update, hooks, done, saving=save or evaluate or stop)
            if any_process(bool(fault), world):
                what, why = fault or (f"the loss is not finite between steps {done - meter.steps} and {done}", HIGH)
                fix = f"a new run with a smaller rate: semiseg train ... -s train.lr={config.lr / 3:.2g}"
                raise Diverged(what, why=why, fix=fix)
            now = time.perf_counter()
            meter.seconds, began = meter.seconds + now - began, now
            if first or due:
                row: dict[str, Any] = {"step": done, "lr": lr, "epoch": clock.epoch}
                row |= {"steps": meter.steps, "seconds": meter.seconds} | averaged(meter.means())
                row |= _skipped(guard, hooks, done - meter.steps) if due else {}
                (hooks.log if due else hooks.show)(row)
            if due:
                meter.reset()
                guard.reset()
            if evaluate and not stop:
                try:
                    stop = not hooks.evaluate(done)
                except (DataError, WorkerLost):
                    if world.size == 1:
                        hooks.save(done)
                    raise
            enough = evaluate and not stop and hooks.enough()
            if save or stop or enough:
                hooks.save(done)
            if stop:
                left = "; its evaluation is still to be done" if evaluate else ""
                raise Interrupted(f"stopped after step {done}; the state is saved{left}")
            if enough:
                return
            began = time.perf_counter()


def _fault(update: Update, hooks: Hooks, done: int, *, saving: bool) -> tuple[str, str] | None:
    """What in this process is not finite after step `done`, and why, told by the log's steps; None: nothing is.

    saving: whether all that would be saved is looked at as well.
    """
    guard, since = update.guard, done - update.meter.steps
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
