"""A run finds its dataset: where it was, beside itself, and never another one of that name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.places import contents, find_root, remember
from semiseg_cli.stages.prepare import prepare_shapes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`home/sets/shapes` and a run `home/runs/r` that remembers it; the working directory is elsewhere."""
    monkeypatch.delenv("SEMISEG_DATA", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    home = tmp_path / "home"
    shapes(home / "sets")
    run = home / "runs" / "r"
    run.mkdir(parents=True)
    (run / "environment.json").write_text('{"python": "3"}')
    remember(run, home / "sets" / "shapes")
    return home


def shapes(root: Path, seed: int = 0) -> Path:
    prepare_shapes(root, seed=seed, labeled=1, unlabeled=1, val=1, size=32)
    return root


def test_where_it_was(home: Path) -> None:
    run = home / "runs" / "r"
    assert find_root("shapes", None, run) == home / "sets"
    assert find_root("shapes", None, run / "best.safetensors") == home / "sets"
    assert json.loads((run / "environment.json").read_text())["python"] == "3"


def test_what_is_named_is_taken(home: Path) -> None:
    assert find_root("shapes", Path("x"), home / "runs" / "r") == Path("x")
    assert find_root("shapes") == Path("data")


def test_both_moved(home: Path, tmp_path: Path) -> None:
    home.rename(tmp_path / "new")
    assert find_root("shapes", None, tmp_path / "new" / "runs" / "r") == tmp_path / "new" / "sets"


def test_a_run_that_moved_to_another_depth_beside_its_data(home: Path, tmp_path: Path) -> None:
    shutil.move(home / "sets", tmp_path / "new" / "sets")
    shutil.move(home / "runs" / "r", tmp_path / "new" / "r")
    assert find_root("shapes", None, tmp_path / "new" / "r") == tmp_path / "new" / "sets"


def test_another_dataset_of_its_name_is_not_taken_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shapes(Path("data"), seed=1)
    run = home / "runs" / "r"
    assert find_root("shapes", None, run) == home / "sets"
    monkeypatch.setenv("SEMISEG_DATA", str(other))
    assert find_root("shapes", None, run) == home / "sets"
    copy = Path("copy").absolute()
    shutil.copytree(home / "sets", copy)
    monkeypatch.setenv("SEMISEG_DATA", str(copy))
    assert find_root("shapes", None, run) == copy, "the same one, where the environment says"


def test_without_a_memory_the_default_counts_then_what_lies_beside(home: Path) -> None:
    run = home / "runs" / "r"
    (run / "environment.json").write_text("{}")
    shutil.move(home / "sets", home / "data")
    assert find_root("shapes", None, run) == home / "data"
    shapes(Path("data"), seed=1)
    assert find_root("shapes", None, run) == Path("data")


def test_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMISEG_DATA", "/somewhere")
    assert find_root("absent", None, home / "runs" / "r") == Path("/somewhere")
    monkeypatch.delenv("SEMISEG_DATA")
    shutil.rmtree(home / "sets")
    assert find_root("shapes", None, home / "runs" / "r") == Path("data")


def test_what_a_dataset_holds_is_told_wherever_it_lies(home: Path, tmp_path: Path) -> None:
    mark = contents(home / "sets" / "shapes")
    shutil.copytree(home / "sets" / "shapes", tmp_path / "other")
    assert contents(tmp_path / "other") == mark != contents(shapes(tmp_path / "d", seed=1) / "shapes")
    (tmp_path / "other" / "dataset.toml").write_text("no = toml = at all")
    assert contents(tmp_path / "other") == ""


def test_a_run_that_cannot_be_written_to(home: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        remember(home / "absent", home / "sets" / "shapes")
