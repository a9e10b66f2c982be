"""`semiseg eval` as typed: what it asks of the stage, and what it prints. The stage is tested beside its own file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import semiseg_cli.stages.evaluate as stage
from semiseg_cli.cli import console
from semiseg_cli.cli.eval import eval_
from semiseg_cli.core.errors import CheckFailed, UsageError

FOUND: dict[str, Any] = {
    "miou": 61.25,
    "iou": {"sky": 80.0, "[red] tree": 42.5, "car": None},
    "frequency": {"sky": 30.0, "[red] tree": 70.0, "car": 0.0},
    "by_frequency": {"head": {"classes": ["[red] tree"], "miou": 42.5}, "tail": {"classes": ["sky"], "miou": 80.0}},
    "pixel_accuracy": 90.125,
    "boundary_f": None,
    "images": 3,
    "checkpoint": "runs/a/best.safetensors",
    "method": "unimatch",
    "step": 30,
    "partition": "own partition, seed 0, 1 of 2",
    "data": "park",
    "split": "val",
    "window": 801,
    "stride": 2 / 3,
    "scales": [1.0],
    "flip": False,
    "absent_as_zero": False,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the stage, which answers FOUND."""
    seen: dict[str, Any] = {}

    def answer(path: Path, **how: Any) -> dict[str, Any]:
        seen.update(how, path=path)
        return FOUND | ({"boundary_f": 33.333} if how["boundary"] else {})

    monkeypatch.setattr(stage, "evaluate_checkpoint", answer)
    monkeypatch.setattr(console, "state", console.State())
    monkeypatch.delenv("SEMISEG_DATA", raising=False)
    return seen


def typed(*words: str) -> Result:
    app = typer.Typer()
    app.command("eval")(eval_)
    return CliRunner().invoke(app, list(words))


def test_a_path_is_enough(asked: dict[str, Any]) -> None:
    assert typed("runs/a").exit_code == 0
    assert asked["path"] == Path("runs/a")
    assert asked["root"] is None, "where the run's dataset is found"
    assert (asked["data"], asked["split"], asked["window"]) == ("", "val", "auto")
    assert (asked["stride"], asked["batch"], asked["scales"], asked["flip"]) == (None, None, (1.0,), False)
    assert (asked["boundary"], asked["absent_as_zero"], asked["save"], asked["device"]) == (False, False, None, "auto")


def test_every_option_arrives(asked: dict[str, Any]) -> None:
    what = "ckpt --split train --data other --root elsewhere --save out --device cpu"
    how = "--window none --stride 2/3 --batch 4 --scales 0.75,1,5/4 --flip --boundary --absent-as-zero"
    assert typed(*what.split(), *how.split()).exit_code == 0
    assert asked.pop("progress") is console.progress
    assert asked == {
        "path": Path("ckpt"),
        "split": "train",
        "data": "other",
        "root": Path("elsewhere"),
        "window": "none",
        "stride": 2 / 3,
        "batch": 4,
        "scales": (0.75, 1.0, 1.25),
        "flip": True,
        "boundary": True,
        "absent_as_zero": True,
        "save": Path("out"),
        "device": "cpu",
    }


@pytest.mark.usefixtures("asked")
def test_table() -> None:
    rows = [line.split() for line in typed("ckpt").stdout.splitlines()]
    for row in (["sky", "80.00"], ["[red]", "tree", "42.50"], ["car", "-"], ["mIoU", "61.25"]):
        assert row in rows
    assert "boundary" not in typed("ckpt").stdout
    assert "3 images of park val, windows of 801 px" in typed("ckpt").stdout
    assert "boundary F-score" in typed("ckpt", "--boundary").stdout


@pytest.mark.usefixtures("asked")
def test_classes_by_frequency() -> None:
    assert "pixels" not in typed("ckpt").stdout
    rows = [line.split() for line in typed("ckpt", "--by-frequency").stdout.splitlines() if line.strip()]
    assert ["class", "IoU", "%", "pixels", "%"] in rows
    start = rows.index(["[red]", "tree", "42.50", "70.00"])
    assert rows[start + 1 : start + 3] == [["sky", "80.00", "30.00"], ["car", "-", "0.00"]]
    assert ["head:", "the", "1", "most", "frequent", "42.50"] in rows
    assert ["tail:", "the", "1", "rarest", "80.00"] in rows


@pytest.mark.usefixtures("asked")
def test_json_is_one_document() -> None:
    document = json.loads(typed("ckpt", "--json").stdout)
    assert document == {"schema": 1, "command": "eval", "result": FOUND}


@pytest.mark.usefixtures("asked")
def test_require_miou_fails_only_below_and_after_printing() -> None:
    assert typed("ckpt", "--require-miou", "61.25").exit_code == 0
    failed = typed("ckpt", "--require-miou", "61.26")
    assert isinstance(failed.exception, CheckFailed)
    assert failed.exception.code == 7
    assert "mIoU" in failed.stdout


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("words", [("--stride", "two"), ("--stride", "1/0"), ("--scales", "1,,2"), ("--scales", "")])
def test_numbers_that_are_none(words: tuple[str, str]) -> None:
    failed = typed("ckpt", *words)
    assert isinstance(failed.exception, UsageError)
    assert words[0] in str(failed.exception)
