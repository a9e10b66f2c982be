"""`semiseg viz` as typed: what it asks of the stage, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.visualize as stage
from semiseg_cli.cli import main

FOUND = {"images": [{"id": "a"}], "sheets": ["s/pseudo-1.png"], "page": "s/pseudo.html"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def answer(source: Path, kind: str, **how: Any) -> dict[str, Any]:
        seen.update(how, source=source, kind=kind)
        return FOUND

    monkeypatch.setattr(stage, "visualize", answer)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return seen


def a_run(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "config.toml").touch()
    return root / name


def test_no_argument_means_the_newest_run_and_its_pseudo_labels(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, "one")
    assert main(["viz", "--runs-root", str(tmp_path)]) == 0
    assert (asked["source"], asked["kind"], asked["out"], asked["count"], asked["seed"]) == (run, "pseudo", None, 12, 0)
    assert capsys.readouterr().out.splitlines() == [f"1 images of {run}", "s/pseudo-1.png", "s/pseudo.html"]


@pytest.mark.parametrize("kind", ["pseudo", "masks", "errors", "augment"])
def test_every_option_arrives(asked: dict[str, Any], tmp_path: Path, kind: str) -> None:
    line = ["viz", str(tmp_path), f"--{kind}", "--n", "3", "--seed", "5", "-o", "out", "--root", "d", "--device", "cpu"]
    assert main(line) == 0
    assert (asked["source"], asked["kind"]) == (tmp_path, kind)
    assert (asked["count"], asked["seed"], asked["out"]) == (3, 5, Path("out"))
    assert (asked["root"], asked["device"]) == (Path("d"), "cpu")


@pytest.mark.usefixtures("asked")
def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["viz", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "viz", "result": FOUND}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--masks", "--errors"], "one kind of picture at a time"),
        (["--runs-root", "{}"], "there is no run in"),
        (["{}/absent"], "there is no"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_what_is_refused(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], said: str
) -> None:
    assert main(["viz", *(word.format(tmp_path) for word in line)]) == 2
    assert said in capsys.readouterr().err
    assert asked == {}
