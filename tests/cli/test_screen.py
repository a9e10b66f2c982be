"""What training looks like: plain lines, and the live screen at 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from semiseg_cli.cli import console
from semiseg_cli.cli.screen import LiveScreen, Screen, duration, make_screen, sparkline

ROW: dict[str, Any] = {
    "step": 50, "loss": 1.25, "loss_labeled": 0.75, "loss_strong": 0.5, "kept": 0.634, "largest_class": 0.5, "lr": 2e-4,
    "grad": 1.23456, "epoch": 2.5, "images_per_second": 8.34, "step_s": 0.95,
    "kept_pixels": {"sky": 900.0, "pole": 12.4, "sign": 0.0, "fence": 60.0}, "unseen": {"sky": 0.0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    console.state = console.State()
    yield
    console.state = console.State()


def tell(shown: Screen) -> None:
    shown.start("fixmatch on park [23 of 367]", 200)
    shown.log(ROW)
    shown.evaluated({"step": 50, "miou": 41.234, "best_miou": 41.234, "iou": {"sky": 80.0}})
    shown.evaluated({"step": 100, "miou": 40.0, "best_miou": 41.234})
    shown.advance(120)


def test_what_chooses_the_best_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    shown = make_screen()
    shown.start("supervised on park", 200)
    shown.evaluated({"step": 50, "miou": 41.0, "best_miou": 40.0, "best_by": "iou:sky"})
    shown.evaluated({"step": 60, "miou": 39.0, "best_miou": 41.0, "best_by": "miou"})
    shown.stop()
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "step 50/200  mIoU 41.00  best 40.00 (by iou:sky)", "step 60/200  mIoU 39.00  best 41.00",
    ]  # fmt: skip


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    shown = make_screen()
    tell(shown)
    shown.stop()
    assert capsys.readouterr().err.splitlines() == [
        "fixmatch on park [23 of 367]",
        "step 50/200  loss 1.2500 (labeled 0.750, strong 0.500)  lr 2.00e-04  8.3 images/s  950 ms a step  2:22 left  "
        "kept 63%  largest class 50%  grad 1.23  fewest kept: sign 0, pole 12, fence 60 px",
        "step 50/200  mIoU 41.23  best 41.23",
        "step 100/200  mIoU 40.00  best 41.23",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console.state.quiet = True
    tell(make_screen())
    assert capsys.readouterr() == ("", "")


def test_a_row_needs_only_step_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    shown.start("x", 2)
    shown.log({"step": 1, "loss": 0.5})
    assert capsys.readouterr().err.endswith("step 1/2  loss 0.5000\n")


def test_the_live_screen_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    shown = make_screen()
    assert isinstance(shown, LiveScreen)
    tell(shown)
    shown.stop()
    shown.stop()
    terminal.export_text(clear=True)
    terminal.print(shown.render())
    lines = [line.rstrip() for line in terminal.export_text().splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0] == "fixmatch on park [23 of 367]"
    assert lines[1].endswith("  120/200   60%  1:16 left")
    assert lines[2:] == [
        "loss 1.2500 (labeled 0.750, strong 0.500)",
        "lr 2.00e-04  8.3 images/s  950 ms a step  kept 63%  largest class 50%  grad 1.23",
        "fewest kept: sign 0, pole 12, fence 60 px",
        "mIoU 40.00 at step 100  best 41.23  █▁",
    ]


def test_the_time_that_is_left_follows_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shown = LiveScreen()
    shown.steps = 100
    assert shown.eta() == ""  # no step has been timed yet
    shown.log({"step": 1, "loss": 1.0, "step_s": 10.0})
    assert shown.eta() == "16:30"
    now = 104.0
    assert shown.eta() == "16:26"
    now = 130.0  # a slow step, or an evaluation
    assert shown.eta() == "16:20"
    shown.advance(60)
    assert shown.eta() == "6:40"
    shown.advance(100)
    assert shown.eta() == ""


def test_work_beside_the_steps_is_announced_and_goes_on_being_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Screen().progress("step 8: evaluating", 10) as advance:
        for later in (20.0, 40.0, 50.0, 80.0, 200.0):
            now = later
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "step 8: evaluating, 10 in all",
        "step 8: evaluating, 4/10  1:00 left",
        "step 8: evaluating, 8/10  0:20 left",
    ]


def test_the_live_screen_shows_work_beside_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    shown = make_screen()
    assert isinstance(shown, LiveScreen)
    tell(shown)
    with shown.progress("step 120: evaluating", 10) as advance:
        advance(4)
        terminal.print(shown.render())
    assert "step 120: evaluating, 4/10\n" in terminal.export_text().replace(" \n", "\n")
    terminal.print(shown.render())
    assert "evaluating" not in terminal.export_text()
    shown.stop()


def test_what_a_large_recipe_takes_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    cost = {
        "step_ms": 61_500.0, "gflop_per_step": 21243.0, "images_per_second": 0.26, "peak_memory_bytes": 18 * 2**30,
        "estimated_hours": 1775.3, "steps": 103_920, "memory_bytes_there": 12 * 2**30,
        "estimated_from": {"images": 2, "crop": 160},
    }  # fmt: skip
    Screen().foreseen(cost)
    assert capsys.readouterr().err.splitlines() == [
        "61.5 s a step, 21243.0 GFLOP, 0.26 images/s, about 18.0 GiB of memory; 12.0 are there",
        "103,920 steps: about 74 days in all, evaluations not counted",
        "(estimated from steps of 2 images of a kind at 160 pixels)",
        "lighter: -p small (for a CPU), -b mobilenet_v2, a smaller -s train.crop, or fewer steps (--steps 2000)",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (725, "12:05"), (11525, "3:12:05"), (4e6, "46 days")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_sparkline_spans_lowest_to_highest() -> None:
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([5, 5]) == "▁▁"
    assert len(sparkline(list(range(100)), width=10)) == 10
