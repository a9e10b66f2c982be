"""Calls on another thread: in order, a few ahead, whole, and never silent about what went wrong."""

from __future__ import annotations

import threading

import pytest

from semiseg_cli.core.beside import beside


def test_calls_are_made_in_order_on_another_thread_and_all_of_them() -> None:
    done: list[tuple[int, bool]] = []
    with beside(2) as put:
        for number in range(20):
            put(lambda number: done.append((number, threading.current_thread() is threading.main_thread())), number)
    assert done == [(number, False) for number in range(20)]


def test_the_caller_waits_where_too_many_wait() -> None:
    free, begun = threading.Event(), list[int]()

    def slow(number: int) -> None:
        begun.append(number)
        assert free.wait(10)

    timer = threading.Timer(0.2, free.set)
    with beside(2) as put:
        put(slow, 0)
        put(slow, 1)
        assert not free.is_set()  # two may wait
        timer.start()
        put(slow, 2)
        assert free.is_set()  # the third had to
    assert begun == [0, 1, 2]


def test_an_error_is_raised_at_the_latest_at_the_end() -> None:
    with pytest.raises(OSError, match="disk full"), beside(4) as put:
        put(_fail)


def test_after_an_error_nothing_more_is_put() -> None:
    made: list[int] = []
    with beside(1) as put:
        put(_fail)
        with pytest.raises(OSError, match="disk full"):
            put(made.append, 1)
    assert made == []


def test_an_interrupted_caller_leaves_whole_calls_and_begins_no_other() -> None:
    running, free, made = threading.Event(), threading.Event(), list[str]()

    def write() -> None:
        running.set()
        assert free.wait(10)
        made.append("whole")

    def interrupted() -> None:
        with beside(4) as put:
            put(write)
            put(made.append, "not begun")
            assert running.wait(10)
            threading.Timer(0.1, free.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert made == ["whole"]


def _fail() -> None:
    raise OSError("disk full")
