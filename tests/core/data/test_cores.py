"""Work on all cores: in order, a bounded number of tasks ahead, and no further one after an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from semiseg_cli.core.data import cores
from semiseg_cli.core.data.cores import on_all_cores


def test_results_are_in_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "AHEAD", 7)
    for count in (0, 1, 7, 8, 100):
        assert on_all_cores(lambda task: task * task, range(count)) == tuple(n * n for n in range(count))


def test_a_first_task_that_takes_long_holds_up_all_but_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits takes memory, and there may be a million tasks."""
    monkeypatch.setattr(cores, "AHEAD", 5)
    asked, enough, go = list[int](), threading.Event(), threading.Event()

    def tasks() -> Iterator[int]:
        for number in range(50):
            asked.append(number)
            if number == 5:
                enough.set()
            yield number

    def work(task: int) -> int:
        if task == 0:
            assert go.wait(10)
        return task

    done = list[tuple[int, ...]]()
    thread = threading.Thread(target=lambda: done.append(on_all_cores(work, tasks())))
    thread.start()
    assert enough.wait(10)
    thread.join(0.05)
    assert len(asked) == 6
    go.set()
    thread.join(10)
    assert done == [tuple(range(50))]


def test_after_an_error_no_further_task_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "AHEAD", 5)
    begun = list[int]()

    def work(task: int) -> None:
        begun.append(task)
        if task == 3:
            raise ValueError("the fourth")

    with pytest.raises(ValueError, match="the fourth"):
        on_all_cores(work, range(1000))
    assert max(begun) <= 8
