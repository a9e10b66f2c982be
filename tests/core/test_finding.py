"""Which run or network is meant: named by its directory, by a file in it, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.files import STATE
from semiseg_cli.core.finding import find, find_network, find_run


def make(root: Path, name: str, *files: str, age: int = 0) -> Path:
    """A run directory with these files, written to `age` seconds before others."""
    for file in ("config.toml", *files):
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (10_000 - age, 10_000 - age))
    return root / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five runs, the newest first: just begun, finished, interrupted twice, and one with its best network alone."""
    make(tmp_path, "begun", age=0)
    make(tmp_path, "done", "best.safetensors", "last.safetensors", str(STATE), "result.json", age=1)
    make(tmp_path, "stopped", "last.safetensors", str(STATE), age=2)
    make(tmp_path, "stopped before", "last.safetensors", str(STATE), age=3)
    make(tmp_path, "cleared", "best.safetensors", "result.json", age=4)
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "run"), [("run", "begun"), ("network", "done"), ("state", "done"), ("unfinished", "stopped")]
)
@pytest.mark.parametrize("named", [None, Path("newest")])
def test_nothing_is_the_newest_that_will_do_and_it_is_said(
    root: Path, named: Path | None, wanted: str, run: str
) -> None:
    said: list[str] = []
    assert find(named, wanted, root, said.append) == root / run
    assert len(said) == 1
    assert said[0].endswith(f": {root / run}")


@pytest.mark.parametrize("wanted", ["run", "network", "state", "unfinished"])
def test_what_is_named_is_meant_and_not_said(root: Path, wanted: str) -> None:
    said: list[str] = []
    for named in (root / "cleared", root / "stopped" / "last.safetensors"):
        assert find(named, wanted, root, said.append) == named
    assert said == []


def test_a_run_called_newest_is_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    make(root, "newest", age=9)
    assert find(Path("newest"), "network", root) == Path("newest")


def test_the_network_of_a_run_of_a_file_and_of_nothing(root: Path) -> None:
    assert find_network(root / "done", root) == root / "done" / "best.safetensors"
    assert find_network(root / "stopped", root) == root / "stopped" / "last.safetensors"
    assert find_network(root / "done" / "last.safetensors", root) == root / "done" / "last.safetensors"
    assert find_network(None, root) == root / "done" / "best.safetensors"
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_network(root / "begun", root)


def test_the_run_of_a_directory_of_its_files_and_of_nothing(root: Path) -> None:
    run = root / "stopped"
    for named in (run, run / "last.safetensors", run / STATE, run / "config.toml", None):
        assert find_run(named, "unfinished", root) == run
    (root / "loose.safetensors").touch()
    with pytest.raises(UsageError, match=r"loose\.safetensors is in no run"):
        find_run(root / "loose.safetensors", "unfinished", root)


def test_what_is_not_there_is_told_with_what_is_near(root: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no") as caught:
        find(root / "stoped", "network", root)
    assert str(root / "stopped") in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("run", "no run in"),
        ("network", "no run with a network in"),
        ("state", "no run with a resume state in"),
        ("unfinished", "no unfinished run in"),
    ],
)
def test_where_there_is_none(tmp_path: Path, wanted: str, said: str) -> None:
    if wanted != "run":
        make(tmp_path, "begun")
    with pytest.raises(UsageError, match=said):
        find(None, wanted, tmp_path / "absent" if wanted == "run" else tmp_path)
