"""Signals and deaths in a run: it saves, says what is kept, and goes on to the same weights and the same log."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.runs.log import append_metrics, read_metrics
from semiseg_cli.core.stopping import asking
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.stopping import signals
from semiseg_cli.stages.train import resume, train

Configured = Callable[..., Resolved]
NEW = [signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT]


@dataclass
class Presser(Silent):
    """A screen that sends signals to the process: after a step, or when the first image of an evaluation is done."""

    after: int = -1
    within: int = -1  # the evaluation after this step
    number: int = signal.SIGTERM
    times: int = 1
    notes: list[str] = field(default_factory=list)

    def advance(self, step: int) -> None:
        if step == self.after:
            self.press()

    def press(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:  # type: ignore[override]
        def advance(count: int = 1) -> None:
            if description.startswith(f"step {self.within}:"):
                self.press()

        yield advance


@pytest.fixture
def start(configured: Configured, shapes_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """A run of five steps with three validation images, one a forward; log lines after steps 3 and 5."""

    def make(name: str, **options: Any) -> Path:
        changes = {"train.log_every": 3, "eval.batch": 1, "method.tau": 0.3}
        resolved = configured("fixmatch", changes)
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / name, device="cpu", **options)
        return tmp_path / name

    return make


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward of an evaluation has seen."""
    seen, forward = list[int](), Segmenter.forward

    def counted(self: Segmenter, x: torch.Tensor, *rest: Any) -> Any:
        if not torch.is_grad_enabled() and not self.training:
            seen.append(len(x))
        return forward(self, x, *rest)

    monkeypatch.setattr(Segmenter, "forward", counted)
    return seen


def left(run: Path) -> dict[str, Any]:
    """All that a run leaves which does not depend on the clock."""
    rows = [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(run)]
    files = {name: load_file(run / name) for name in ("last.safetensors", "best.safetensors")}
    said = {name: load_network(run / name)[1] for name in files}
    state = load_file(run / "resume" / "state.safetensors")
    result = json.loads((run / "result.json").read_text())
    result = {k: v for k, v in result.items() if k not in ("run", "seconds", "peak_memory_bytes")}
    bits = {f"{name}/{key}": value for name, part in (files | {"state": state}).items() for key, value in part.items()}
    return {"rows": json.dumps(rows), "said": said, "result": result, "bits": bits}


def same(one: Path, two: Path) -> bool:
    a, b = left(one), left(two)
    assert {k: v for k, v in a.items() if k != "bits"} == {k: v for k, v in b.items() if k != "bits"}
    return a["bits"].keys() == b["bits"].keys() and all(torch.equal(v, b["bits"][k]) for k, v in a["bits"].items())


@pytest.mark.parametrize("number", NEW)
def test_signals_of_schedulers_and_terminals_save_between_log_lines_too(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path, number: int
) -> None:
    before = {n: signal.getsignal(n) for n in NEW}
    with pytest.raises(Interrupted, match=r"after step 2; the state is saved$") as error:
        start("halves", screen=Presser(after=2, number=number))
    assert error.value.fix == f"semiseg train --resume {tmp_path / 'halves'} --root {shapes_root}"
    assert {n: signal.getsignal(n) for n in NEW} == before
    resume(tmp_path / "halves", data_root=shapes_root, device="cpu")
    assert same(tmp_path / "halves", start("whole"))


@pytest.mark.parametrize("step", [4, 5])
def test_a_signal_in_an_evaluation_saves_without_another_forward(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path, forwards: list[int], step: int
) -> None:
    """Also in the last one: the run is then finished by its evaluation alone."""
    screen = Presser(within=step, number=signal.SIGUSR1)
    with pytest.raises(Interrupted, match=f"after step {step}; the state is saved; its evaluation is still to be done"):
        start("halves", screen=screen)
    assert forwards == [1] * (1 if step == 4 else 4)  # of three images each
    (note,) = [line for line in screen.notes if "stopping" in line]
    assert note.startswith(f"stopping in the evaluation after step {step}, then saving; Ctrl-C again ends it now (")
    with pytest.raises(Interrupted, match=r"stopped before the next step; .*halves is as it was"):
        resume(tmp_path / "halves", data_root=shapes_root, device="cpu", screen=Presser(within=step))
    resume(tmp_path / "halves", data_root=shapes_root, device="cpu")
    assert same(tmp_path / "halves", start("whole"))


def test_a_second_ctrl_c_in_an_evaluation_says_what_is_kept_and_how_to_go_on(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path
) -> None:
    screen = Presser(within=5, number=signal.SIGINT, times=2)
    on = f"semiseg train --resume {tmp_path / 'halves'} --root {shapes_root}"
    with pytest.raises(Interrupted, match="stopped in the evaluation after step 5; state and network of step 4") as end:
        start("halves", screen=screen)
    assert end.value.fix == on
    assert "the saved state is of step 4)" in screen.notes[-1]
    resume(tmp_path / "halves", data_root=shapes_root, device="cpu")
    assert same(tmp_path / "halves", start("whole"))


def test_an_evaluation_whose_step_was_saved_without_it_is_noted_once(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path
) -> None:
    """Killed after the evaluation that was owed had been noted, and before the state that knows it was written."""
    with pytest.raises(Interrupted):
        start("halves", screen=Presser(within=4))
    whole = start("whole")
    (row,) = [row for row in read_metrics(whole) if row["step"] == 4 and "best_miou" in row]
    append_metrics(tmp_path / "halves", row)
    resume(tmp_path / "halves", data_root=shapes_root, device="cpu")
    assert same(tmp_path / "halves", whole)


def test_what_was_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nohup semiseg train` goes on when the terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals() as stop:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            stop.at_once = False
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop()
        assert signal.SIGHUP not in asking()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in asking()


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_saving() -> None:
    def closed() -> None:
        raise OSError(5, "Input/output error")

    with signals() as stop:
        stop.at_once, stop.told = False, closed
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop()
