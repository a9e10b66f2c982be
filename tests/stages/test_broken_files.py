"""A file that breaks while a run goes on: nothing is lost, and the way on, which is named, leads where it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.order import pick
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.training.checkpoint import read
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare_shapes(tmp_path / "data", labeled=4, unlabeled=40, val=3, size=48)
    return tmp_path / "data"


@pytest.fixture
def start(configured: Callable[..., Resolved], root: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(name: str, method: str = "fixmatch", screen: Silent | None = None, **changes: Any) -> dict[str, Any]:
        never = {"train.save_every": 100, "train.cache_mb": 0}
        settings = never | {f"train.{key}": value for key, value in changes.items()}
        resolved = configured(method, settings)
        out = tmp_path / name
        return train(resolved, data_root=root, runs_root=tmp_path, out=out, device="cpu", screen=screen)

    return make


def rows(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(run)]


@pytest.mark.parametrize(("which", "after"), [("pool", 3), ("val", 4)])
def test_what_was_done_is_saved_and_goes_on(
    start: Callable[..., dict[str, Any]], root: Path, tmp_path: Path, which: str, after: int
) -> None:
    """A photo of the pool that is drawn in the fourth step, and one that the evaluation after that step needs."""
    dataset = load_dataset(root, "shapes")
    pool = [record for record in dataset.train if record.mask is None]
    record = pool[pick(0, "unlabeled", len(pool), 3 * 2)] if which == "pool" else dataset.val[1]
    assert record.image not in {pool[pick(0, "unlabeled", len(pool), place)].image for place in range(6)}
    whole = start("whole")
    good = record.image.read_bytes()
    record.image.write_bytes(good[:200])
    with pytest.raises(DataError) as caught:
        start("run")
    assert caught.value.code == 3
    run = tmp_path / "run"
    assert str(record.image) in caught.value.what
    assert f"state and network of step {after} were kept" in caught.value.why
    assert f"semiseg train --resume {run}" in caught.value.fix
    assert read(run / "resume" / "state.safetensors")[1]["step"] == after
    assert [row["step"] for row in rows(run) if "loss" in row] == list(range(1, after + 1))
    with pytest.raises(DataError):  # still broken: nothing is lost either
        resume(run, data_root=root, device="cpu")
    record.image.write_bytes(good)
    result = resume(run, data_root=root, device="cpu")
    assert sorted(rows(run), key=str) == sorted(rows(tmp_path / "whole"), key=str)
    assert (result["last"], result["best"]) == (whole["last"], whole["best"])


def test_the_last_evaluation_is_made_up_for(
    start: Callable[..., dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    whole = start("whole", eval_every=0)
    record = load_dataset(root, "shapes").val[0]
    good = record.image.read_bytes()
    record.image.write_bytes(b"")
    with pytest.raises(DataError):
        start("run", eval_every=0)
    record.image.write_bytes(good)
    assert resume(tmp_path / "run", data_root=root, device="cpu")["last"] == whole["last"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["last"] == whole["last"]


def test_nothing_is_saved_before_the_first_step(
    start: Callable[..., dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    for record in load_dataset(root, "shapes").labeled:
        record.image.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        start("run")
    assert "nothing had been saved yet" in caught.value.why
    assert "--resume" not in caught.value.fix


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
@pytest.mark.parametrize("weights", ["none", "sqrt"])
def test_classes_of_which_nothing_is_found_are_named(
    start: Callable[..., dict[str, Any]], method: str, weights: str
) -> None:
    """In every method, with advice that is not taken yet; twice at most."""
    screen = Notes()
    result = start("run", method, screen, lr=1e-9, eval_every=1, class_weights=weights)
    unfound = [name for name, value in result["last"]["iou"].items() if value == 0]
    told = [note for note in screen.notes if "nothing is found of" in note]
    assert unfound
    assert [note.split(":")[0] for note in told] == ["step 3", "step 5"]
    assert all(name in told[-1] for name in unfound)
    assert ("train.class_weights=sqrt" in told[0]) == (weights == "none")
    assert ("method.warmup" in told[0]) == (method == "fixmatch")
