"""Parts within a time: which are run, which are left out, and what becomes of one that fails or takes too long."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from benchmarks.parts import OutOfTime, Part, limited, work_through


def part(name: str, seconds: float = 0.01, run: Any = None) -> Part:
    return Part("step", name, seconds, run or (lambda limit: {"limit": limit}))


def test_a_part_that_fails_is_told_and_the_rest_goes_on() -> None:
    def broken(_limit: float) -> dict[str, Any]:
        raise RuntimeError("out of memory\nand a long story")

    told: list[dict[str, Any]] = []
    found = work_through([part("one"), part("two", run=broken), part("three")], 60, told.append)
    assert [(row["name"], row["state"]) for row in found] == [("one", "done"), ("two", "failed"), ("three", "done")]
    assert found[1]["why"] == "RuntimeError: out of memory"
    assert "in broken" in found[1]["trace"]
    assert told == found


def test_a_part_may_take_longer_than_usual_but_not_longer_than_is_left() -> None:
    found = work_through([part("short", 0.1), part("long", 40)], 60, lambda row: None)
    assert found[0]["limit"] == pytest.approx(0.3)
    assert 59 < found[1]["limit"] <= 60


def test_what_would_not_fit_is_named_and_a_shorter_part_after_it_runs() -> None:
    found = work_through([part("long", 100), part("short", 1)], 30, lambda row: None)
    assert [row["state"] for row in found] == ["left out", "done"]
    assert found[0]["why"] == "it takes about 100 s, 30 were left"


def test_a_part_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    hanging = part("hanging", 0.1, lambda limit: time.sleep(30))
    found = work_through([hanging, part("next")], 60, lambda row: None)
    assert [row["state"] for row in found] == ["failed", "done"]
    assert found[0]["why"].startswith("OutOfTime")
    assert time.monotonic() - began < 10


def test_a_limit_ends_with_its_block() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), limited(0.05):
        time.sleep(10)
    with limited(0.2):
        pass
    time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) == before
