"""Steps of every method and plug-in can be captured as a graph: replayed later, they are what the steps would be.

A CPU has no graphs; `tape.py` stands for them. A new line in METHODS or PLUGINS is tested here without a change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from captures import CASES, STEPS, Batches, Case, Make, Run, built
from tape import Calls
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from semiseg_cli.core.methods.base import SemiBatch, StepOutput, Views
from semiseg_cli.core.methods.meanteacher import MeanTeacher
from semiseg_cli.core.methods.plugins.base import Extended, PlugIn
from semiseg_cli.core.training.watch import Watch
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views.tables import Tables

COMPARED = (1, 2, 5, 8, 11)  # of labels alone; of the rest, within ramps, near their end and after them; odd and even


@pytest.mark.parametrize("case", CASES, ids=str)
def test_replayed_steps_are_the_steps_bit_for_bit(case: Case, train_module: Make, host_batch: Batches) -> None:
    """And steps of a stage have the same operators with the same numbers, as a graph will have them."""
    plain, run = (Run(built(case, train_module), host_batch, *case.how, **case.train) for _ in range(2))
    steps = list[tuple[str, Calls]]()

    def noted(hosts: Iterator[dict[str, Tensor]], clock: Clock) -> None:
        if clock.step not in COMPARED:
            return plain.update(hosts, clock)
        micro = plain.update.fetch(hosts)
        with Calls() as calls:
            plain.update.learn(micro, clock, plain.train.staged(clock))
        plain.train.method.settle(clock)
        steps.append((plain.train.method.stage(clock), calls))
        return None

    plain.go(noted)
    run.go(run.captured)
    assert run.notes == []
    assert [stage.replay is not None for stage in run.captured.stages.values()] == [True] * len(run.captured.stages)
    assert [tape.strangers for tape in run.tapes.tapes] == [[]] * len(run.tapes.tapes)
    for step, (one, two) in enumerate(zip(plain.rows, run.rows, strict=True)):
        assert one == two, f"step {step}"
    theirs = run.state()
    assert [name for name, value in plain.state().items() if not torch.equal(value, theirs[name])] == []
    for stage in {stage for stage, _ in steps}:
        first, *others = [calls.calls for name, calls in steps if name == stage]
        assert others
        for other in others:
            assert differing(first, other) is None


def differing(one: list[Any], two: list[Any]) -> Any:
    """The first call of an operator that is not the same in two steps."""
    pairs = ((a, b) for a, b in zip(one, two, strict=False) if repr(a) != repr(b))  # nan is not nan
    return next(pairs, None) or (None if len(one) == len(two) else (len(one), len(two)))


@pytest.mark.parametrize("case", [case for case in CASES if not case.settings], ids=str)
def test_a_step_on_cuda_neither_waits_nor_copies(
    case: Case, train_module: Make, host_batch: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors that only say they were on CUDA, which raise where somebody asks what they hold.

    Backward passes need a device, and fused optimisers: they are left out, and watched on the CPU.
    """
    real = Run(built(case, train_module), host_batch, *case.how, **case.train)
    clock, hosts = Clock(STEPS - 1, STEPS), real.update.fetch(real.hosts())
    noted = Tables(torch.device("cpu"))
    noted.fill(clock)
    real.update.learn(hosts, clock, noted)
    noted.fill(clock)
    assert noted.buffer is not None

    train, mode = built(case, train_module), FakeTensorMode()
    if pool := real.train.pool:
        train.pool = pool
        pool.rgb_P3, pool.label_P = there(mode, pool.rgb_P3), there(mode, pool.label_P)
    for part in train.modules():
        for store in (part._parameters, part._buffers):
            store |= {name: there(mode, tensor) for name, tensor in store.items() if tensor is not None}
    with mode, torch.no_grad():
        fake = Run(train, host_batch, *case.how, **case.train)
        tables = copy.copy(noted)
        tables.buffer = there(mode, noted.buffer)
        tables.given = 0

        def backward(loss: Tensor) -> None:
            for p in train.parameters():
                p.grad = torch.zeros_like(p)

        monkeypatch.setattr(Tensor, "backward", backward)
        monkeypatch.setattr(fake.update.optimizer, "step", lambda: None)
        inputs = [{name: there(mode, tensor) for name, tensor in host.items()} for host in hosts]
        with Watch() as watch:
            fake.update.learn(inputs, clock, tables)
    assert watch.found == []
    assert tables.given == len(tables.entries)
    assert all(value.is_cuda for value in fake.update.meter.sums.values())


def there(mode: FakeTensorMode, tensor: Tensor) -> Any:
    """A tensor as it would be on CUDA."""
    with mode:
        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


class Bad(MeanTeacher):
    """Steps that cannot be captured, each in its own way."""

    how = ""

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        out = super().step(batch, views)
        loss, clock = out.losses["strong"], batch.clock
        match self.how:
            case "number":
                loss = loss * clock.progress
            case "branch":
                loss = loss if clock.step % 2 else loss * 0.5
            case "wait":
                loss = loss * (2.0 if loss.item() > 0 else 1.0)
            case "array":
                loss = loss * torch.from_numpy(np.ones(1, np.float32))[0]
        return StepOutput({**out.losses, "strong": loss}, out.stats, out.terms, out.weak)


class BadPlugIn(PlugIn):
    acts_on = "weak"

    def step(self, out: StepOutput, batch: Any, views: Views) -> StepOutput:
        assert out.weak is not None
        return StepOutput({"late": batch.clock.stage_progress * out.weak.net(out.weak.image_B3HW).square().mean()})


BAD = {
    "number": "reads `progress` of the clock",
    "branch": "reads `step` of the clock",
    "wait": "the host wait for what a tensor holds",
    "array": "makes a tensor of numbers that the host has",
}


@pytest.mark.parametrize("how", BAD)
def test_a_step_that_may_not_be_captured_is_told_of_and_taken_as_it_is(
    how: str, train_module: Make, host_batch: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bad, "how", how)
    plain, run = (Run(train_module(Bad, tau=0.0, warmup=0.33, alpha=0.5), host_batch) for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured)
    assert len(run.notes) == 1
    assert BAD[how] in run.notes[0]
    assert "test_captured_steps.py:" in run.notes[0]
    stages = run.captured.stages
    assert stages["labels"].replay is not None
    assert stages["main"].plain
    assert run.rows == plain.rows


def test_a_plug_in_that_reads_the_clock_is_told_of(train_module: Make, host_batch: Batches) -> None:
    base = train_module("meanteacher", tau=0.0)
    base.method = Extended(base.method, {"bad": BadPlugIn(None, base.method.build)})
    run = Run(base, host_batch)
    run.go(run.captured)
    assert len(run.notes) == 1
    assert "reads `stage_progress` of the clock" in run.notes[0]


def test_a_tensor_that_is_no_buffer_is_noticed(train_module: Make, host_batch: Batches) -> None:
    """It would stay on the host."""

    class Forgetful(MeanTeacher):
        def __init__(self, settings: Any, build: Any) -> None:
            super().__init__(settings, build)
            self.weight = torch.ones(1)

        def step(self, batch: SemiBatch, views: Views) -> StepOutput:
            logits = self.net(views.weak(batch.labeled))
            return StepOutput({"labeled": self.weight[0] * self.build.labeled_loss(logits, batch.labeled)})

    run = Run(train_module(Forgetful), host_batch)
    run.go(run.captured)
    (tape,) = run.tapes.tapes
    assert "test_captured_steps.py" in tape.strangers[0]


def test_a_capture_that_fails_leaves_the_run_as_it_was(
    train_module: Make, host_batch: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STPG keeps a list from its step to `after_step`, in which the failed capture leaves something."""
    case = Case("stpg")
    plain, run = (Run(built(case, train_module), host_batch) for _ in range(2))

    def fails(body: Callable[[], None]) -> Callable[[], None]:
        with monkeypatch.context() as patched:
            patched.setattr(run.update.optimizer, "step", lambda: 1 / 0)
            try:
                return real(body)
            finally:
                raise RuntimeError("a capture that broke off cannot be ended")  # as PyTorch says then

    real = run.tapes.capture
    monkeypatch.setattr(run.tapes, "capture", fails)
    plain.go(plain.update)
    run.go(run.captured)
    assert len(run.notes) == 1  # it is not tried again
    assert "test_captured_steps.py:" in run.notes[0]
    assert "ZeroDivisionError" in run.notes[0]
    assert [stage.replay for stage in run.captured.stages.values()] == [None] * len(run.captured.stages)
    assert run.rows == plain.rows
    theirs = run.state()
    assert [name for name, value in plain.state().items() if not torch.equal(value, theirs[name])] == []
