"""What is meant to be copied (commands, paths, names of runs) is printed whole, at 80 columns as in a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from test_demo import FOUND as DEMO
from test_lists import FOUND as RUNS

import semiseg_cli.stages.demo as demo_stage
import semiseg_cli.stages.runs as runs_stage
from semiseg_cli.cli import console, main
from semiseg_cli.core.config.tables import table_rows
from semiseg_cli.core.data.index import write_dataset
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.partitions.protocols import published

Capture = pytest.CaptureFixture[str]
LONG = "cityscapes-classic-183-unimatch+interpixel+masked-resnet101s-s1234567 of my own"


@pytest.fixture(params=["terminal", "pipe"], autouse=True)
def narrow(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> Iterator[None]:
    """stdout and stderr are a terminal of 80 columns, or none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "state", console.State())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console.stderr.cache_clear()
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: request.param == "terminal")
    assert sys.stderr.isatty() == (request.param == "terminal")
    yield
    console.stderr.cache_clear()


def lines(capsys: Capture, *words: str, code: int = 0) -> list[str]:
    """What a command line prints on both streams."""
    assert main(words) == code
    return [line for stream in capsys.readouterr() for line in plain(stream)]


def plain(shown: str) -> list[str]:
    """Lines without colours and the spaces around them."""
    return [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]


@pytest.mark.parametrize("name", [*METHODS, *PLUGINS])
def test_the_commands_of_the_papers_tables(name: str, capsys: Capture) -> None:
    shown, commands = lines(capsys, "methods", name), [row.command for row in table_rows(name)]
    assert not [line for line in shown if line.count("`") % 2], "a command within prose, cut in two"
    assert [line for line in shown if line in commands] == commands
    assert any(line.startswith("train with it: semiseg train --method ") for line in shown)


def test_a_command_within_prose_is_whole(capsys: Capture, request: pytest.FixtureRequest) -> None:
    shown = lines(capsys, "methods", "guidedmix")
    assert sum("`semiseg split voc --import DIR`" in line for line in shown) == 1
    if "terminal" in request.node.name:
        text = "word " * 15 + "`semiseg split a-b -l 1\n --import DIR` " + "word " * 20
        first, second, *_ = console.prose(text).splitlines()
        assert first == ("word " * 15).rstrip()
        assert second.startswith("`semiseg split a-b -l 1 --import DIR` word")


def test_words_for_plug_ins(capsys: Capture) -> None:
    starts = [line.split("  ")[0] for line in lines(capsys, "methods")]
    assert {*METHODS, *(f"--add {name}" for name in PLUGINS)} <= set(starts)


def test_what_comes_after_the_demo(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    run, picture = f"my demo/runs/{LONG}", f"my demo/pictures/{LONG}.png"
    found = {**DEMO, "rows": [DEMO["rows"][0], {**DEMO["rows"][1], "run": run}], "pictures": [picture]}
    monkeypatch.setattr(demo_stage, "demo", lambda *_, **__: found)
    shown = lines(capsys, "demo", "--dir", "my demo")
    assert f"semiseg eval '{run}' --root 'my demo/data'" in shown
    assert f"semiseg viz '{run}' --errors --root 'my demo/data'" in shown
    assert f"'{picture}'" in shown
    assert any(line.startswith("semiseg prepare folder ") and line.endswith(" --long-side 241") for line in shown)


def test_names_of_runs(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**RUNS, "runs": [{**RUNS["runs"][1], "run": f"r/{LONG}"}, RUNS["runs"][0]]}
    monkeypatch.setattr(runs_stage, "summarise_runs", lambda root: found)
    shown = lines(capsys, "runs")
    assert [line for line in shown if line.startswith(LONG)]
    assert "4/9" in " ".join(shown)  # other columns are there, too


def test_partitions_and_how_to_get_them(capsys: Capture, tmp_path: Path) -> None:
    shown = lines(capsys, "split", "voc", "--list")
    for each in published("voc"):
        assert any(f" {each.words} " in line and line.endswith("semiseg prepare voc") for line in shown)
    write_dataset(Dataset("voc", "voc", tmp_path / "data" / "voc", ("a", "b"), ((0, 0, 0), (1, 1, 1)), (), ()), {})
    assert any(line.endswith("--fetch unimatch") for line in lines(capsys, "split", "--list"))


def test_notes_warnings_and_errors(capsys: Capture) -> None:
    command = f"semiseg train --resume 'runs/{LONG}' --root '/somewhere/else/{LONG}'"
    console.note(f"next: {command}")
    console.warn(f"better: {command}")
    assert plain(capsys.readouterr().err) == [f"next: {command}", f"warning: better: {command}"]
    assert f"try: semiseg train --resume 'runs/{LONG}'" in lines(capsys, "train", f"runs/{LONG}", code=2)


def test_a_table_keeps_words_and_marked_columns_whole(capsys: Capture) -> None:
    table = Table("copied", "read", "n", box=None)
    table.columns[0].no_wrap = True
    cells: tuple[Any, ...] = ("a command of " + "words " * 12 + "end", "prose " * 20 + "x" * 30, "123456")
    table.add_row(*cells)
    console.result("x", {}, ["line " * 30, table], json=False)
    first, _, row, *_ = out = capsys.readouterr().out.splitlines()
    assert first == "line " * 30
    assert cells[0] in row
    assert "123456" in row
    assert any("x" * 30 in line for line in out)


def test_prose_is_filled_where_somebody_reads_it(capsys: Capture, request: pytest.FixtureRequest) -> None:
    text = f"{'word ' * 22}word\nmore\n\nlast"
    narrow = "terminal" in request.node.name
    assert console.prose(text) == (f"{'word ' * 15}word\n{'word ' * 7}more\n\nlast" if narrow else text)
