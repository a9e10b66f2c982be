"""Processes that make items: one that is killed is replaced once where it stood; a second one is an error."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from semiseg_cli.core.data.loader import begin_worker
from semiseg_cli.core.data.workers import made
from semiseg_cli.core.errors import DataError, SemisegError, WorkerLost


class Squares(Dataset[int | SemisegError]):
    def __getitem__(self, item: int) -> int | SemisegError:
        time.sleep(0.01)
        return item * item if item != 77 else DataError("77")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch looks every five seconds whether its processes live."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


def squares(numbers: range, workers: int = 2) -> Iterator[int]:
    return made(Squares(), numbers, workers, begin_worker, pin=False, ahead=2)


def taken(numbers: range, kill_after: Sequence[int]) -> list[int]:
    """The items, one of the processes being killed after so many."""
    found = list[int]()
    for item in squares(numbers):
        found.append(item)
        if len(found) in kill_after:
            kill_one()
    return found


def kill_one() -> None:
    victim = multiprocessing.active_children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()


def test_one_that_is_killed_is_replaced_and_every_item_comes_once() -> None:
    with pytest.warns(UserWarning, match="was ended by SIGKILL; others take up where it stood"):
        found = taken(range(5, 40), [10])
    assert found == [n * n for n in range(5, 40)]
    assert multiprocessing.active_children() == []


def test_the_death_is_met_where_an_item_is_asked_for_and_nowhere_else() -> None:
    """Torch's own handler would raise in the middle of whatever the training process does."""
    items = squares(range(40))
    next(items)
    before = signal.getsignal(signal.SIGCHLD)
    kill_one()
    time.sleep(0.2)  # the signal is there
    assert before == signal.SIG_DFL
    with pytest.warns(UserWarning, match="take up"):
        assert list(items) == [n * n for n in range(1, 40)]


def test_a_second_one_is_an_error_that_says_why_and_what_to_try() -> None:
    with warnings.catch_warnings(action="ignore"), pytest.raises(WorkerLost, match="was ended by SIGKILL") as error:
        taken(range(70), [5, 20])
    assert "lack of memory" in error.value.why
    assert "train.workers" in error.value.fix
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_is_an_item_is_raised_and_nothing_is_begun_anew(workers: int) -> None:
    with warnings.catch_warnings(record=True) as told, pytest.raises(DataError, match="77"):
        list(squares(range(70, 90), workers))
    assert not any("take up" in str(warning.message) for warning in told)
    assert multiprocessing.active_children() == []


def test_a_run_whose_loader_dies_once_is_the_undisturbed_one(
    configured: Callable[..., Any], shapes_root: Any, tmp_path: Any
) -> None:
    from safetensors.torch import load_file

    from semiseg_cli.core.runs.log import read_metrics
    from semiseg_cli.stages.progress import Silent
    from semiseg_cli.stages.train import train

    class Killer(Silent):
        def advance(self, step: int) -> None:
            if step == 2:
                kill_one()

    resolved = configured("supervised", {"train.workers": 2, "train.steps": 12, "train.eval_every": 0})
    with pytest.warns(UserWarning, match="take up"):
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / "a", device="cpu", screen=Killer())
    train(resolved, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / "b", device="cpu")
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert all((value == two[key]).all() for key, value in one.items())
    rows = [[row["loss"] for row in read_metrics(tmp_path / name) if "loss" in row] for name in "ab"]
    assert rows[0] == rows[1]
    assert threading.active_count() < 20
