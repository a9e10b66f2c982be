"""`semiseg viz` as typed: what it asks of the stage, what it prints, what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.visualize as stage
from semiseg_cli.cli import main

FOUND = {"images": [{"id": "a"}], "sheets": ["s/pseudo-1.png"], "page": "s/pseudo.html"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def answer(source: Path, kind: str | list[str], **how: Any) -> dict[str, Any]:
        seen.update(how, source=source, kind=kind)
        return FOUND

    monkeypatch.setattr(stage, "visualize", answer)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return seen


def a_run(root: Path, name: str, *files: str, age: int = 0) -> Path:
    for file in ("config.toml", *files):
        (root / name / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / file).touch()
        os.utime(root / name / file, (10_000 - age, 10_000 - age))
    return root / name


def test_no_argument_means_the_newest_run_and_its_pseudo_labels(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, "one", "resume/state.safetensors")
    assert main(["viz", "--runs-root", str(tmp_path)]) == 0
    assert (asked["source"], asked["kind"], asked["out"], asked["count"], asked["seed"]) == (run, "pseudo", None, 12, 0)
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"1 image of {run}", "s/pseudo-1.png", "s/pseudo.html"]
    assert f"the newest run with a resume state: {run}" in said.err


@pytest.mark.parametrize(
    ("kind", "run"),
    [("pseudo", "state"), ("augment", "state"), ("mix", "state"), ("reconstruction", "state"), ("masks", "network"),
     ("errors", "network"), ("features", "network"), ("pairs", "begun")],
)  # fmt: skip
def test_the_newest_run_is_one_that_has_what_is_drawn(
    asked: dict[str, Any], tmp_path: Path, kind: str, run: str
) -> None:
    a_run(tmp_path, "state", "resume/state.safetensors", age=2)
    a_run(tmp_path, "network", "best.safetensors", age=1)
    a_run(tmp_path, "begun")
    assert main(["viz", f"--{kind}", "--runs-root", str(tmp_path)]) == 0
    assert asked["source"] == tmp_path / run


@pytest.mark.parametrize(
    ("kinds", "run"),
    [(("masks", "errors"), "network"), (("errors", "pseudo"), "state"), (("pairs", "masks"), "network")],
)
def test_several_kinds_are_asked_for_together(
    asked: dict[str, Any], tmp_path: Path, kinds: tuple[str, ...], run: str
) -> None:
    """Of a run that has what all of them need."""
    a_run(tmp_path, "state", "resume/state.safetensors", age=2)
    a_run(tmp_path, "network", "best.safetensors", age=1)
    a_run(tmp_path, "begun")
    assert main(["viz", *(f"--{kind}" for kind in kinds), "--runs-root", str(tmp_path)]) == 0
    assert (sorted(asked["kind"]), asked["source"]) == (sorted(kinds), tmp_path / run)


@pytest.mark.parametrize("kind", ["pseudo", "masks", "pairs", "augment"])
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
    ("line", "said", "code"),
    [
        (["--runs-root", "{}"], "there is no run with a resume state in", 2),
        (["{}/absent"], "there is no", 5),
        (["--seed", "-1"], "--seed", 2),
        (["{}", "--errors", "--seed", "3"], "any --seed", 2),
    ],
)
def test_what_is_refused(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], said: str, code: int
) -> None:
    assert main(["viz", *(word.format(tmp_path) for word in line)]) == code
    assert said in capsys.readouterr().err
    assert asked == {}
