"""Completion as a shell asks for it; the scripts in `completions/` are the ones Typer makes now."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from semiseg_cli.cli import main
from semiseg_cli.cli.completions import scripts
from semiseg_cli.core.config.presets import presets
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.models import BACKBONES

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "cv2", "scipy"}

Complete = Callable[..., list[str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with the datasets `park` and `town` and two runs."""
    for folder, file in (("data/park", "dataset.toml"), ("data/town", "dataset.toml"), ("other/lake", "dataset.toml"),
                         ("runs/park-1", "config.toml"), ("runs/town-1", "config.toml")):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).touch()
    return tmp_path


def asked(line: str) -> dict[str, str]:
    """What bash sets for a line whose last word is being typed (empty after a space)."""
    words = line.split(" ")
    return {"_SEMISEG_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}


def environment(**more: str) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("SEMISEG_")}
    return {**known, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def complete(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What bash is told for a line."""
    monkeypatch.chdir(place)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS"):
        monkeypatch.delenv(name, raising=False)

    def ask(line: str, **more: str) -> list[str]:
        for name, value in {**asked(line), **more}.items():
            monkeypatch.setenv(name, value)
        assert main([]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out.split()

    return ask


def test_the_scripts_are_current() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "completions").iterdir()}
    assert found == scripts(), "python -m semiseg_cli.cli.completions writes them again"


def test_commands_and_options(complete: Complete) -> None:
    assert complete("semiseg ex") == ["export"]
    assert complete("semiseg train --dry") == ["--dry-run"]
    assert complete("semiseg config ") == ["init", "show"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("semiseg train --method ", list(METHODS)),
        ("semiseg methods uni", ["unimatch", "unimatchv2"]),
        ("semiseg train -b ", list(BACKBONES)),
        ("semiseg train -p ", list(presets())),
        ("semiseg presets sm", ["small"]),
        ("semiseg train -d ", ["park", "town"]),
        ("semiseg train --root other -d ", ["lake"]),
        ("semiseg split t", ["town"]),
        ("semiseg eval x -d p", ["park"]),
        ("semiseg eval runs/p", ["runs/park-1"]),
        ("semiseg predict runs/t", ["runs/town-1"]),
        ("semiseg export runs/t", ["runs/town-1"]),
        ("semiseg viz runs/t", ["runs/town-1"]),
        ("semiseg train --resume runs/t", ["runs/town-1"]),
        ("semiseg predict runs/town-1 ph", []),  # nothing of ours: the shell offers files
    ],
)
def test_names_are_read_when_asked(complete: Complete, line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_roots_come_from_the_environment(complete: Complete, place: Path) -> None:
    assert complete("semiseg train -d ", SEMISEG_DATA="other") == ["lake"]
    assert complete("semiseg eval ", SEMISEG_RUNS=str(place / "data")) == []
    (place / "data" / "r").mkdir()
    (place / "data" / "r" / "config.toml").touch()
    assert complete("semiseg eval ", SEMISEG_RUNS=str(place / "data")) == [str(place / "data" / "r")]


def test_without_torch(place: Path) -> None:
    lines = [asked(f"semiseg {line}") for line in ("train -m ", "train -d ", "eval ", "train -b ")]
    code = (
        "import os, sys\nfrom semiseg_cli.cli import main\n"
        f"for asked in {lines!r}: os.environ.update(asked), main([]), print('LOADED', *sys.modules, 'OFFERED')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=place, capture_output=True, text=True, check=True
    )
    answers = f"OFFERED{done.stdout}".split("OFFERED")[1:-1]
    assert len(answers) == len(lines)
    for line, answer in zip(lines, answers, strict=True):
        offered, loaded = answer.split("LOADED")
        assert offered.strip(), line
        assert not HEAVY & set(loaded.split()), line


def test_in_bash_itself(place: Path) -> None:
    program = place / "bin" / "semiseg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m semiseg_cli "$@"\n')
    program.chmod(0o755)
    lines = (
        f"source {shlex.quote(str(ROOT / 'completions' / 'semiseg.bash'))}",
        "COMP_WORDS=(semiseg train -m fix) COMP_CWORD=3",
        "_semiseg_completion semiseg",
        'echo "${COMPREPLY[@]}"',
        "complete -p semiseg",
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)],
        env=environment(PATH=f"{program.parent}:{os.environ['PATH']}"),
        cwd=place, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["fixmatch", "complete -o default -F _semiseg_completion semiseg"]
