"""One result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from rich.table import Table

from semiseg_cli.cli import console


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console.state = console.State()
    yield
    console.state = console.State()


def test_a_result_is_text_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console.result("eval", {"miou": 1.5}, "mIoU 1.5 [not markup]", json=False)
    assert capsys.readouterr() == ("mIoU 1.5 [not markup]\n", "")
    console.result("eval", {"iou": {"cär": None}, "x": [float("inf"), (1, True)]}, "text", json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "schema": 1,
        "command": "eval",
        "result": {"iou": {"cär": None}, "x": [None, [1, True]]},
    }
    assert shown.err == ""
    console.result("eval", {}, "text", json=True)
    assert capsys.readouterr().out == ""


def test_a_file_name_that_is_not_utf8_comes_back_from_the_document(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    name = os.fsdecode(b"photos/\xff \xc3\xa9.jpg")
    console.result("predict", [name], "", json=True)
    out = capsysbinary.readouterr().out
    assert "é".encode() in out
    assert json.loads(out)["result"] == [name]


def test_a_table_goes_into_a_pipe_unwrapped(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name")
    table.add_row("x" * 150)
    console.result("eval", {}, table, json=False)
    assert "x" * 150 in capsys.readouterr().out


def test_notes_go_to_stderr_on_one_line_and_quiet_silences_them_but_not_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.note("[bold] " + "word " * 40)
    assert capsys.readouterr() == ("", "[bold] " + "word " * 40 + "\n")
    console.state.quiet = True
    console.note("hidden")
    console.warn("seen")
    assert capsys.readouterr() == ("", "warning: seen\n")


def test_progress_is_silent_in_a_pipe_and_counts_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("preparing", 3) as advance:
        advance()
        advance(2)
        advance(done=3)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.stderr.cache_clear()
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("preparing", 4) as advance:
        advance()
        advance(done=3)
    console.stderr.cache_clear()
    shown = capsys.readouterr()
    assert "preparing" in shown.err
    assert "3/4" in shown.err
    assert shown.out == ""
