"""Runs that go on for longer, that end early, and what their best network is chosen by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from same import same_tensors, timeless
from stopping import Stopping

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.config.toml import flat
from semiseg_cli.core.errors import CheckpointError, Interrupted, UsageError
from semiseg_cli.core.inference.metrics import quality
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.runs.results import earlier_results, read_result
from semiseg_cli.core.settings import BadSetting
from semiseg_cli.core.training.checkpoint import read_network
from semiseg_cli.stages import recorder
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.recorded import Recorded
from semiseg_cli.stages.repeat import repeated
from semiseg_cli.stages.report_run import told
from semiseg_cli.stages.runs import summarise_runs
from semiseg_cli.stages.train import resume, train

Start = Callable[..., Path]


@pytest.fixture
def start(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> Start:
    def make(name: str = "run", changes: dict[str, Any] | None = None, screen: Silent | None = None) -> Path:
        quick = {"train.steps": 4, "train.eval_every": 2, "train.save_every": 100}
        resolved = configured("fixmatch", quick | {"method.tau": 0.3} | (changes or {}))
        place = {"data_root": shapes_root, "runs_root": tmp_path, "device": "cpu"}
        train(resolved, out=tmp_path / name, screen=screen, **place)  # type: ignore[arg-type]
        return tmp_path / name

    return make


def go_on(run: Path, steps: object, root: Path, screen: Silent | None = None) -> dict[str, Any]:
    return resume(run, data_root=root, overrides={"train.steps": steps}, device="cpu", screen=screen)


def test_a_finished_run_goes_on(start: Start, shapes_root: Path, tmp_path: Path) -> None:
    run = start()
    before, log = json.loads((run / "result.json").read_text()), timeless(run)
    shutil.copytree(run, tmp_path / "copy")
    screen = Stopping()
    found = go_on(run, "8", shapes_root, screen)
    assert found["steps"] == 8
    assert "from step 4 to 8 at the learning rate that a run of 8 steps has there: 0.00536 of 0.01" in screen.notes[0]
    assert earlier_results(run) == [before]
    assert same_tensors(run / "last-4.safetensors", tmp_path / "copy" / "last.safetensors")
    assert timeless(run)[: len(log)] == log
    rates = {row["step"]: row["lr"] for row in timeless(run) if "lr" in row}
    assert rates[4] == pytest.approx(0.01 * (1 / 4) ** 0.9)
    assert [rates[step] for step in (5, 8)] == pytest.approx([0.01 * (4 / 8) ** 0.9, 0.01 * (1 / 8) ** 0.9])
    assert runs.config_of(run).train.steps == 8
    assert runs.read_origins(run)["train.steps"] == "--steps, after 4"
    assert ("result after 4 steps", f"mIoU {before['last']['miou']:.2f} %") in told(Recorded.of(run), [], [])["cost"]
    with pytest.raises(UsageError, match="went on for longer after 4 steps"):
        repeated(run, shapes_root)

    copy = tmp_path / "copy"
    with pytest.raises(Interrupted):
        go_on(copy, 8, shapes_root, Stopping(7))
    assert resume(copy, data_root=shapes_root, device="cpu")["last"] == found["last"]
    assert timeless(copy) == timeless(run)
    assert same_tensors(copy / "last.safetensors", run / "last.safetensors")


def test_what_does_not_go_on(start: Start, shapes_root: Path, tmp_path: Path) -> None:
    run = start()
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert go_on(run, 4, shapes_root)["steps"] == 4
    with pytest.raises(UsageError, match="has taken 4 steps") as error:
        go_on(run, 3, shapes_root)
    assert error.value.fix == f"semiseg train --resume {run} --steps 8"
    with pytest.raises(BadSetting):
        go_on(run, "many", shapes_root)
    with pytest.raises(UsageError, match="cannot change"):
        resume(run, data_root=shapes_root, overrides={"train.steps": 8, "train.lr": 1.0}, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files
    shutil.rmtree(run / "resume")
    with pytest.raises(CheckpointError, match="no resume state"):
        go_on(run, 8, shapes_root)
    with pytest.raises(Interrupted):
        start("cut", screen=Stopping(1))
    with pytest.raises(UsageError, match="cannot change"):
        go_on(tmp_path / "cut", 8, shapes_root)


def test_patience_ends_a_run(
    start: Start, shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {2: 5.0, 4: 6.0, 6: 6.0, 8: 1.0, 10: 7.0, 12: 2.0}
    monkeypatch.setattr(recorder, "quality", lambda row, by: scores[row["step"]])
    changes, screen = {"train.steps": 12, "train.patience": 2}, Stopping()
    run = start("run", changes, screen)
    result = read_result(run)
    assert (result["steps"], result["last"]["step"], result["best"]["step"]) == (8, 8, 4)
    assert "step 8 is the last: no better network in 2 evaluations (patience)" in screen.notes
    assert read_network(run / "last.safetensors")[1]["step"] == 8
    assert Recorded.of(run).step == 8

    for stop in (5, 8):  # before and at its last step
        with pytest.raises(Interrupted):
            start(f"cut{stop}", changes, Stopping(stop))
        cut = tmp_path / f"cut{stop}"
        assert resume(cut, data_root=shapes_root, device="cpu")["steps"] == 8
        assert timeless(cut) == timeless(run)
        assert same_tensors(cut / "last.safetensors", run / "last.safetensors")

    (cut / "result.json").unlink()  # it was killed once its state was written
    assert resume(cut, data_root=shapes_root, device="cpu")["steps"] == 8
    result = go_on(run, 12, shapes_root)
    assert (result["steps"], result["best"]["step"]) == (12, 10)


def test_patience_of_a_run_that_goes_on_counts_what_is_measured_from_there(
    start: Start, shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {2: 6.0, 4: 5.0, 6: 2.0, 8: 3.0, 10: 4.0, 12: 4.0, 14: 9.0}
    monkeypatch.setattr(recorder, "quality", lambda row, by: scores[row["step"]])
    run = start("run", {"train.patience": 1})
    assert read_result(run)["steps"] == 4
    with pytest.raises(Interrupted):
        go_on(run, 14, shapes_root, Stopping(9))
    result = resume(run, data_root=shapes_root, device="cpu")  # 6, 8 and 10 are below the best, and each rises
    assert (result["steps"], result["last"]["step"], result["best"]["step"]) == (12, 12, 2)


def test_patience_counts_evaluations(start: Start) -> None:
    with pytest.raises(BadSetting, match=r"0 where train\.eval_every is 0"):
        start(changes={"train.patience": 1, "train.eval_every": 0})


@pytest.mark.parametrize("by", ["iou:ellipse", "boundary"])
def test_the_best_network_is_chosen_by(by: str, start: Start, tmp_path: Path) -> None:
    classes = ["background", "ellipse"]
    run = start("runs/run", {"train.best_by": by, "train.eval_every": 1, "train.lr": 0.05})
    rows = [row for row in read_metrics(run) if "miou" in row]
    values = [row["iou"]["ellipse"] or 0.0 if by == "iou:ellipse" else row["boundary_f"] for row in rows]
    best = rows[values.index(max(values))]
    assert list(rows[0]["iou"])[:2] == classes
    result = read_result(run)
    assert (result["best"]["step"], result["best_by"]) == (best["step"], by)
    assert read_network(run / "best.safetensors")[1]["step"] == best["step"]
    found = Recorded.of(run)
    assert (found.best or {})["step"] == best["step"]
    assert any(f"chosen by {by}" in text for *_, text in told(found, [], [])["tiles"])
    (row,) = summarise_runs(tmp_path / "runs")["runs"]
    assert (row["best"], row["best_by"]) == (best["miou"], by)


def test_quality() -> None:
    row = {"miou": 40.0, "boundary_f": 30.0, "iou": {"road": 20.0, "pole": None}}
    assert [quality(row, by) for by in ("miou", "boundary", "iou:road")] == [40.0, 30.0, 20.0]
    assert quality(row, "iou:pole") == float("-inf")


def test_names_that_are_near(start: Start) -> None:
    with pytest.raises(BadSetting) as error:
        start(changes={"train.best_by": "iou:elipse"})
    assert error.value.fix.startswith("did you mean 'ellipse'?")
    with pytest.raises(BadSetting) as error:
        start(changes={"train.class_weights": "elipse=2"})
    assert error.value.fix.startswith("did you mean 'ellipse'?")
    with pytest.raises(BadSetting, match="miou, iou:CLASS or boundary"):
        start(changes={"train.best_by": "iou"})


def test_class_weights_by_name(start: Start, configured: Callable[..., Resolved]) -> None:
    table = flat({"train": {"class_weights": {"ellipse": 4, "rectangle": 0.5}}})
    assert configured("fixmatch", table).config.train.class_weights == "ellipse=4,rectangle=0.5"
    for wrong in ("ellipse", "ellipse=-1", "ellipse=1,ellipse=2", "=3", "ellipse=inf"):
        with pytest.raises(BadSetting, match="road=2,pole=4"):
            configured("fixmatch", {"train.class_weights": wrong})
    run = start(changes=table)
    assert runs.config_of(run).train.class_weights == "ellipse=4,rectangle=0.5"
    assert read_network(run / "last.safetensors")[1]["config"]["train.class_weights"] == "ellipse=4,rectangle=0.5"
    losses, plain = ([row.get("loss_labeled") for row in timeless(each)] for each in (run, start("plain")))
    assert losses != plain
