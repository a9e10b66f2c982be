"""`semiseg demo` as typed: what it prints of what the stage found. The stage's parts are tested beside their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.demo as stage
from semiseg_cli.cli import main

FOUND: dict[str, Any] = {
    "labeled": 10,
    "unlabeled": 300,
    "images": 80,
    "seed": 0,
    "rows": [
        {"method": "supervised", "run": "d/runs/a", "seconds": 30.0, "miou": 40.0, "iou": {"star": 40.0, "a": None}},
        {"method": "unimatch", "run": "d/runs/b c", "seconds": 60.0, "miou": 45.5, "iou": {"star": 45.5, "a": None}},
    ],
    "report": "d/report.html",
    "pictures": ["d/pictures/comparison-1.png", "d/pictures/pseudo-1.png"],
    "gain": 5.5,
    "seconds": 95.0,
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def answer(folder: Path, **how: Any) -> dict[str, Any]:
        seen.update(how, folder=folder)
        return FOUND

    monkeypatch.setattr(stage, "demo", answer)
    return seen


def test_what_it_prints_can_be_pasted(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--dir", "d", "--seed", "3", "--device", "cpu"]) == 0
    assert (asked["folder"], asked["seed"], asked["device"]) == (Path("d"), 3, "cpu")
    out = capsys.readouterr().out
    assert "gains +5.5 points" in out
    assert "\n  d/report.html\n  d/pictures/comparison-1.png\n  d/pictures/pseudo-1.png\n" in out
    assert [line.split() for line in out.splitlines() if line.startswith(("IoU", "a ", "mean", "time"))] == [
        ["IoU", "%", "supervised", "unimatch"],
        ["a", "-", "-"],
        ["mean", "40.0", "45.5"],
        ["time", "0:30", "1:00"],
    ]
    assert "semiseg eval 'd/runs/b c' --root d/data" in out
    assert "semiseg viz 'd/runs/b c' --errors --root d/data" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "demo", "result": FOUND}
