"""One result on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator

import pytest
from rich.table import Table

from semiseg_cli.cli import console, failure
from semiseg_cli.cli.screen import LiveScreen
from semiseg_cli.core.errors import DataError


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


@pytest.mark.parametrize("width", [40, 62, 80])
def test_a_table_in_a_narrow_terminal_loses_nothing(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that break may have words of very different lengths; the last column is whole all the same."""
    shown = console.Plain(file=(out := io.StringIO()), width=width)
    monkeypatch.setattr(console, "stdout", lambda: shown)
    table = Table("run", "method", "labeled", "best", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.add_row("camvid-1-0-uni-right", "supervised, split_seed 0", "own, 23 of 295", "46.12")
    console.result("x", None, table, json=False)
    lines = out.getvalue().splitlines()
    words = ["camvid-1-0-uni-right", "supervised,", "split_seed", "0", "own,", "23", "of", "295", "46.12"]
    assert sorted(" ".join(lines[1:]).split()) == sorted(words)
    assert all(len(line) <= max(width, 51) for line in lines)  # 51: its longest words, and what is between them
    assert len(lines) == {40: 4, 62: 3, 80: 2}[width]


EVIL = "\x1b]0;mine\x07[/][red] :cat: \x9b2J\u202e"
SHOWN = r"\x1b]0;mine"


def test_names_do_not_act_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class or file of that name through every way to a terminal: lines, errors, tables, progress, live screen."""
    out = io.StringIO()
    terminal = console.Plain(file=out, force_terminal=True, width=150)
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    monkeypatch.setattr(console.sys, "stdout", out)
    console.note(f"note {EVIL}")
    console.warn(f"warn {EVIL}")
    failure.report(DataError(f"error {EVIL}", why=f"why {EVIL}", fix=f"fix {EVIL}"))
    console.result("x", None, f"result {EVIL}", json=False)
    table = Table(f"head {EVIL}", title=f"title {EVIL}")
    table.add_row(f"cell {EVIL}")
    console.result("x", None, table, json=False)
    with console.progress(f"progress {EVIL}", 2) as advance:
        advance()
    screen = LiveScreen()
    screen.start(f"live {EVIL}", 10)
    screen.log({"step": 5, "loss": 1.0, "kept_pixels": {f"class {EVIL}": 3.0}})
    screen.note(f"screen {EVIL}")
    screen.stop()
    text = out.getvalue()
    for word in ("note", "warn", "error", "why", "fix", "result", "head", "title", "cell", "progress", "live", "class",
                 "screen"):  # fmt: skip
        assert re.search(rf"{word}(\x1b\[[0-9;]*m)* {re.escape(SHOWN)}", text), word
    assert "[/][red] :cat: " in text
    assert not set("\x07\x9b\u202e") & set(text)
    left = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)  # rich's own: colours, and where the cursor is
    assert "\x1b" not in left
    assert "🐱" not in text


def test_json_shows_names_and_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    console.state = console.State()
    console.result("x", {"classes": [EVIL, "\udcff"]}, "", json=True)
    said = capsys.readouterr().out
    assert json.loads(said)["result"]["classes"] == [EVIL, "\udcff"]
    assert not {chr(n) for n in (*range(9), *range(11, 32), *range(127, 160), 0x202E)} & set(said)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError()])
def test_nobody_reads_any_more_and_the_work_goes_on(error: OSError) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    gone = console.Plain(file=Gone())
    gone.print("one")
    gone.print("two")
