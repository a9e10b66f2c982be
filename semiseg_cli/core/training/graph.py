"""Steps as CUDA graphs: captured once for each stage of a method, then started by the host in one call.

The host needs about 40 us for every operator of a step and a large GPU less than that to compute it, so that a step
waits for the host. A graph has all of a step: views, passes, optimiser, teachers, sums for the log. What changes from
step to step reaches it through memory that stays where it is: micro-batches (`Inputs`), tables (`views.Tables`),
learning rates. A replayed step computes what the step itself would, bit for bit.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from semiseg_cli.core.data.loader import HostBatch, Plan
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.recorder import CudaGraphs, Recorder
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.training.watch import Watch
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views.tables import Tables

REAL = 3  # steps of a stage before it is captured: the first notes its tables, the second is watched
MOST_PARTS = 16  # micro-batches of a step; a graph has the operators of them all

Take = Callable[[Iterator[HostBatch], Clock], None]


@dataclass
class Stage:
    """Steps that have the same operators. replay: None before they were captured. plain: they never are."""

    tables: Tables
    taken: int = 0
    replay: Callable[[], None] | None = None
    counted: dict[str, int] = field(default_factory=dict)  # values that a step gives the meter
    plain: bool = False


class Captured:
    """Takes steps as `update` does, from graphs as soon as there are any.

    note: told in a line, once for each stage that cannot be captured, what is in the way; its steps are then taken
    operator by operator.
    """

    def __init__(self, update: Update, recorder: Recorder, note: Callable[[str], None]) -> None:
        self.update, self.recorder, self.note = update, recorder, note
        self.stages: dict[str, Stage] = {}
        self.failed = False  # after a capture that broke off PyTorch may not begin another

    def __call__(self, batches: Iterator[HostBatch], clock: Clock) -> None:
        update, method = self.update, self.update.train.method
        stage = self.stages.setdefault(method.stage(clock), Stage(Tables(update.world.device)))
        if stage.plain or self.failed:
            with self.recorder.stream():  # where the memory is that real steps before these have left
                update(batches, clock)
            return
        hosts = update.fetch(batches)
        with self.recorder.stream():
            inputs = self.recorder.inputs.fill(hosts)
            stage.tables.fill(update.train.staged(clock))
            update.seed(clock)
            self._take(stage, inputs, clock)
        method.settle(clock)

    def _take(self, stage: Stage, inputs: list[HostBatch], clock: Clock) -> None:
        def body() -> None:
            self.update.learn(inputs, clock, stage.tables)

        if stage.taken == REAL:
            self._capture(stage, body)
        if stage.replay is not None:
            stage.replay()
            self.update.meter.counted(stage.counted)
        elif stage.taken == 1:
            with Watch() as watch:
                body()
            self._judge(stage, [*watch.found, *stage.tables.read])
        else:
            body()
        stage.taken += 1

    def _judge(self, stage: Stage, found: list[str]) -> None:
        """Whether a stage can be captured, of what was found in one of its steps."""
        if found:
            stage.plain = True
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            self.note(f"steps are not captured as a CUDA graph: {found[0]}{more}")

    def _capture(self, stage: Stage, body: Callable[[], None]) -> None:
        """Capturing computes nothing; what it did to Python's objects is put back if it fails."""
        meter, before, held = self.update.meter, dict(self.update.meter.counts), _held(self.update.train)
        try:
            with _capturable(self.update.optimizer):
                stage.replay = self.recorder.capture(body)
            stage.counted = {name: n - before.get(name, 0) for name, n in meter.counts.items()}
            stage.counted = {name: n for name, n in stage.counted.items() if n}
        except Exception as error:  # of whatever kind: the run can go on without a graph
            self.update.optimizer.zero_grad(set_to_none=True)
            for values, was in held:
                values.update(was)
            stage.tables.given = 0
            self.failed = True
            self.close()
            self._judge(stage, [_told(error)])
        if self.failed:  # and the error, with all that it held, is gone
            gc.collect()
            torch.cuda.empty_cache()
        meter.counts.clear()
        meter.counted(before)

    def close(self) -> None:
        """Let go of all graphs, without a wait for the device: peers of a process that fails alone may never come."""
        for stage in self.stages.values():
            stage.replay = None


def captures(train: TrainConfig, plan: Plan, world: World) -> bool:
    """Whether steps are captured, as `train.graph` has it and `check_graph` lets it pass."""
    wanted = train.graph == "on" or (train.graph == "auto" and plan.accumulation <= MOST_PARTS)
    return wanted and world.device.type == "cuda"


def stepping(update: Update, train: TrainConfig, note: Callable[[str], None]) -> Take:
    """How the steps of a run are taken."""
    if captures(train, update.plan, update.world):
        return Captured(update, CudaGraphs(update.world.device), note)
    return update


@contextmanager
def taking(update: Update, train: TrainConfig, note: Callable[[str], None]) -> Iterator[Take]:
    """As `stepping`; at the end no graph is left, even where an error's traceback holds the frames of the steps.

    NCCL waits, as its process group is destroyed, for every graph that has collectives.
    """
    take = stepping(update, train, note)
    try:
        yield take
    finally:
        if isinstance(take, Captured):
            take.close()


def check_graph(train: TrainConfig, world: World) -> None:
    """Raise UsageError where graphs are asked for and there is no CUDA."""
    if train.graph == "on" and world.device.type != "cuda":
        raise UsageError(
            "train.graph is on, and steps are captured on a CUDA device alone",
            why=f"this run is on: {world.device.type}",
            fix="-s train.graph=auto",
        )


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it, Adam's kind is told that it is captured; its fused form does the same either way."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(groups, before, strict=True):
            group["capturable"] = was


def _held(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the modules' own attributes are, and copies of those that can be added to."""

    def copied(value: Any) -> Any:
        return value.copy() if isinstance(value, list | dict | set) else value

    return [
        (vars(part), {name: copied(value) for name, value in vars(part).items() if not name.startswith("_")})
        for part in module.modules()
    ]


def _told(error: BaseException) -> str:
    """The first of the errors in a line, with the last place outside PyTorch that led to it.

    Ending a capture that broke off raises another, which says no more than that.
    """
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    torch_folder = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(torch_folder)]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if frames else ""
    first = (str(error).splitlines() or [""])[0]
    return f"{place}{type(error).__name__}: {first}"
