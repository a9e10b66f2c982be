"""Steps as CUDA graphs: what they compute is what the steps compute, whatever happens between them."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from captures import CASES, Batches, Case, Make, Run, built
from safetensors.torch import load_file

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.methods.base import SemiBatch, StepOutput, Views
from semiseg_cli.core.methods.meanteacher import MeanTeacher
from semiseg_cli.core.methods.plugins.base import Extended, PlugIn
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.training.setup import set_deterministic
from semiseg_cli.core.training.step import Train
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    set_deterministic(True)
    yield
    set_deterministic(False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_captured_steps_are_the_steps_bit_for_bit(case: Case, train_module: Make, host_batch: Batches) -> None:
    """Through a warm-up, ramps and the plateau, with the log read after every step."""
    plain, run = (Run(built(case, train_module).cuda(), host_batch, *case.how, **case.train) for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured)
    assert run.notes == []
    assert all(stage.replay is not None for stage in run.captured.stages.values())
    for step, (one, two) in enumerate(zip(plain.rows, run.rows, strict=True)):
        assert one == two, f"step {step}"
    theirs = run.state()
    assert [name for name, value in plain.state().items() if not torch.equal(value, theirs[name])] == []


class Notes(Silent):
    """Keeps what it is told, and sends SIGTERM after a step, as a cluster does."""

    def __init__(self, stop: int = 0) -> None:
        self.lines, self.stop = list[str](), stop

    def note(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, step: int) -> None:
        if step == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("method", ["unimatch", "meanteacher", "stpg", "s4mim"])
def test_evaluations_saves_and_a_stop_between_captured_steps_change_nothing(
    method: str, configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path
) -> None:
    """A run is stopped after it was captured, and goes on: its other half is captured anew."""
    changes = {
        "train.deterministic": True, "train.steps": 14, "train.eval_every": 5, "train.save_every": 3,
        "method.warmup": 0.3,
    }  # fmt: skip
    places: dict[str, Any] = {"data_root": shapes_root, "runs_root": tmp_path, "device": "cuda"}

    def rows(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(run)]

    plain, whole, halves, screen = tmp_path / "plain", tmp_path / "whole", tmp_path / "halves", Notes()
    train(configured(method, changes | {"train.graph": "off"}), out=plain, **places)
    train(configured(method, changes | {"train.graph": "on"}), out=whole, screen=screen, **places)
    assert not [line for line in screen.lines if "captured" in line]
    with pytest.raises(Interrupted):
        train(configured(method, changes | {"train.graph": "on"}), out=halves, screen=Notes(stop=9), **places)
    resume(halves, data_root=shapes_root, device="cuda")
    assert rows(whole) == rows(plain)
    assert rows(halves) == rows(plain)
    states = [load_file(run / "last.safetensors") for run in (plain, whole, halves)]
    assert all(torch.equal(value, state[key]) for key, value in states[0].items() for state in states[1:])


def test_a_bad_step_of_a_graph_leaves_no_trace(train_module: Make, host_batch: Batches) -> None:
    """With train.on_nonfinite=skip: nothing has changed after replayed steps whose loss is not a number."""

    class Bad(MeanTeacher):
        def step(self, batch: SemiBatch, views: Views) -> StepOutput:
            out = super().step(batch, views)
            loss = out.losses["strong"]
            factor = batch.clock.value(lambda clock: math.nan if clock.step in (1, 7, 8) else 1.0, loss)
            return StepOutput({name: factor * value for name, value in out.losses.items()}, out.stats)

    plain, run = (Run(train_module(Bad, tau=0.0).cuda(), host_batch, on_nonfinite="skip") for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured, range(7))
    before = {name: value.clone() for name, value in run.state().items()}
    run.go(run.captured, range(7, 9))
    assert all(torch.equal(value, before[name]) for name, value in run.state().items())
    run.go(run.captured, range(9, 12))
    assert run.notes == []
    assert run.rows == plain.rows
    assert run.guard.read() == plain.guard.read() == (1, 3, 0)
    theirs = run.state()
    assert all(torch.equal(value, theirs[name]) for name, value in plain.state().items())
    assert not all(torch.equal(value, before[name]) for name, value in theirs.items())


class Counts(PlugIn):
    """Weighs classes by how often they are predicted: on CUDA the host must wait for the largest, to know how many."""

    acts_on = "weak"

    def step(self, out: StepOutput, batch: Any, views: Views) -> StepOutput:
        assert out.weak is not None
        logits_BKHW = out.weak.net(out.weak.image_B3HW)
        counts_K = torch.bincount(logits_BKHW.argmax(1).flatten(), minlength=logits_BKHW.shape[1])
        return StepOutput({"even": (logits_BKHW.softmax(1).mean((0, 2, 3)) * counts_K / counts_K.sum()).sum()})


def test_a_plug_in_that_counts_is_told_of_and_its_steps_are_taken_as_they_are(
    train_module: Make, host_batch: Batches
) -> None:
    def extended() -> Train:
        train = train_module("meanteacher", tau=0.0)
        train.method = Extended(train.method, {"even": Counts(None, train.method.build)})
        return train.cuda()

    plain, run = (Run(extended(), host_batch) for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured)
    (note,) = run.notes
    assert "not captured" in note
    assert "test_captured.py:" in note
    assert "(bincount)" in note
    assert [stage.replay for stage in run.captured.stages.values()] == [None] * len(run.captured.stages)
    assert run.rows == plain.rows


def test_a_capture_that_breaks_off_leaves_a_run_that_learns_as_if_there_had_been_none(
    train_module: Make, host_batch: Batches
) -> None:
    """What waits only while it is captured nobody sees before: CUDA ends the capture, and PyTorch adds its errors."""

    class Breaks(MeanTeacher):
        def after_step(self, moment: Any) -> None:
            super().after_step(moment)
            if torch.cuda.is_current_stream_capturing():
                torch.cuda.synchronize()

    plain, run = (Run(train_module(Breaks, tau=0.0).cuda(), host_batch) for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured)
    (note,) = run.notes  # and no second try
    assert "test_captured.py:" in note
    assert "captur" in note.split("graph:")[1]  # CUDA's words: not permitted when a stream is capturing
    assert [stage.replay for stage in run.captured.stages.values()] == [None] * len(run.captured.stages)
    assert run.rows == plain.rows
    theirs = run.state()
    assert [name for name, value in plain.state().items() if not torch.equal(value, theirs[name])] == []
    torch.cuda.synchronize()
    after = Run(train_module("meanteacher", tau=0.0).cuda(), host_batch)  # the device is as it should be
    assert after.go(after.update).rows


def test_a_step_that_waits_is_told_of_and_taken_as_it_is(train_module: Make, host_batch: Batches) -> None:
    class Waits(MeanTeacher):
        def step(self, batch: SemiBatch, views: Views) -> StepOutput:
            out = super().step(batch, views)
            share = 2.0 if out.losses["strong"].item() > 0 else 1.0
            return StepOutput({**out.losses, "strong": share * out.losses["strong"]}, out.stats)

    plain, run = (Run(train_module(Waits, tau=0.0).cuda(), host_batch) for _ in range(2))
    plain.go(plain.update)
    run.go(run.captured)
    assert len(run.notes) == 1
    assert "test_captured.py:" in run.notes[0]
    assert run.rows == plain.rows
