"""What a training step costs: arithmetic, time by part, memory. Used by `train --dry-run` and `semiseg bench`."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from semiseg_cli.core.data.loader import HostBatch, Plan
from semiseg_cli.core.training.compiled import without_compiler
from semiseg_cli.core.training.finite import Guard
from semiseg_cli.core.training.graph import REAL, captures, stepping
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import set_learning_rates
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

PARTS = ("data", "forward", "backward", "optimiser", "after_step")


@dataclass
class Laps:
    """Milliseconds of every part of every step. Waits for the device at each lap, so that a part pays for itself."""

    device: torch.device
    steps: list[dict[str, float]] = field(default_factory=list)
    last: float = 0.0

    def start(self) -> None:
        self.steps.append(dict.fromkeys(PARTS, 0.0))
        self.last = _now(self.device)

    def __call__(self, part: str) -> None:
        now = _now(self.device)
        self.steps[-1][part] += 1000 * (now - self.last)
        self.last = now

    def parts(self) -> dict[str, dict[str, float]]:
        return {part: spread([step[part] for step in self.steps]) for part in PARTS}


Step = Callable[..., None]  # (lap=None)


def measure(
    session: Session,
    steps: int = 3,
    *,
    parts: bool = False,
    batches: Iterator[HostBatch] | None = None,
    advance: Callable[[], object] = lambda: None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Cost of a training step, as `cost_of` has it, and what it is a step of.

    A step that is captured is timed as it is replayed. parts: as many steps again, operator by operator and timed part
    by part. On CUDA a part then waits for the device, which a training run
    does not: the parts of a step may add up to more than the step.
    batches: host micro-batches instead of the loader's, for the cost of a step that never waits for its images.
    advance: called after each of `steps_taken(session, steps, parts)` steps.
    note: told why a step could not be captured.
    """
    device = session.world.device
    plan = replace(session.plan, start=0, steps=steps_taken(session, steps, parts))
    step = stepper(session, plan, batches, advance, note)
    cost = cost_of(step, steps, device, _warm_up(session))
    laps = Laps(device)
    for _ in range(steps if parts else 0):
        laps.start()
        step(laps)
    whole = cost.pop("step")
    return of_a_run(session, cost) | ({"step": whole, "parts": laps.parts()} if parts else {})


def steps_taken(session: Session, steps: int, parts: bool = False) -> int:
    """How many steps `measure` takes for `steps` of them timed."""
    return 1 + _warm_up(session) + steps * (2 if parts else 1)


def _warm_up(session: Session) -> int:
    """Steps after the first until they are as they stay."""
    return REAL if captures(session.config.train, session.plan, session.world) else 1


def stepper(
    session: Session,
    plan: Plan,
    batches: Iterator[HostBatch] | None = None,
    advance: Callable[[], object] = lambda: None,
    note: Callable[[str], None] = lambda line: None,
) -> Step:
    """A function that takes one more step of `plan`, as the last of the run: past any warm-up, with every branch on.

    With a lap it is taken operator by operator, else as a run would take it.
    """
    batches = session.batches(plan) if batches is None else batches
    session.train.train()
    numbers = iter(range(plan.steps))
    config = session.config.train
    guard = Guard(session.train, session.optimizer, session.world, skip=config.on_nonfinite == "skip")
    update = Update(session.train, session.optimizer, plan, config.grad_clip, Meter(), session.world, guard)
    take = stepping(update, config, note)

    def step(lap: Callable[[str], None] | None = None) -> None:
        clock = Clock(session.plan.steps - 1, session.plan.steps)
        set_learning_rates(session.optimizer, next(numbers), replace(config, steps=plan.steps))
        if lap:
            update(batches, clock, lap)
        else:
            take(batches, clock)
        advance()

    return step


def of_a_run(session: Session, cost: dict[str, Any]) -> dict[str, Any]:
    """The cost of a step, and what it makes of the run."""
    return cost | {
        "images_per_second": 1000 * session.plan.batch * session.images_per_label / cost["step_ms"],
        "estimated_hours": cost["step_ms"] * session.plan.steps / 3.6e6,
        "device": session.device_name,
        "partition": session.partition.name,
        "labeled": len(session.partition.labeled),
        "unlabeled": len(session.partition.unlabeled),
    }


def cost_of(step: Callable[[], object], steps: int, device: torch.device, warm_up: int = 1) -> dict[str, Any]:
    """GFLOP of the first call of `step`; then, after `warm_up` more, the time of `steps` of them, and memory.

    Memory is the device's peak, on a CPU the process's.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with flop_counter() as counter:
        step()
    for _ in range(warm_up):
        step()
    times = step_times(step, steps, device)
    return {
        "step_ms": median(times),
        "step": spread(times),
        "gflop_per_step": counter.get_total_flops() / 1e9,
        "peak_memory_bytes": peak_memory(device),
    }


def step_times(step: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Milliseconds of each of `count` calls. On CUDA from event to event: nothing waits that would not in a run."""
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(count):
            step()
            marks.append(time.perf_counter())
        return [1000 * (after - before) for before, after in pairwise(marks)]
    torch.cuda.synchronize(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize(device)
    return [before.elapsed_time(after) for before, after in pairwise(events)]


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter with the right cost of a grouped convolution's backward pass.

    Its own formula (torch 2.14) takes the gradient of the weight for one of an ungrouped convolution: for a depthwise
    one of C channels that is C times too much.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, which a run needs not

    class Counter(FlopCounterMode):
        def __enter__(self) -> FlopCounterMode:
            super().__enter__()  # type: ignore[no-untyped-call]
            assert self.mode
            without_compiler(self.mode)
            return self

    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: convolution_backward_flop}
    return Counter(display=False, custom_mapping=formulas)


def convolution_backward_flop(
    grad_out_shape: Sequence[int],
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    output_mask: Sequence[bool],
    **_: object,
) -> int:
    """Each gradient that is asked for, of the input and of the weight, costs what the forward pass does.

    That is a multiplication and an addition per weight and place; a grouped weight has its few input channels already.
    """
    places = math.prod((x_shape if transposed else grad_out_shape)[2:])
    return sum(map(bool, output_mask[:2])) * 2 * x_shape[0] * places * math.prod(w_shape)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def peak_memory(device: torch.device) -> int:
    """Bytes: the largest allocation on CUDA since the last reset, else the process's largest resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
