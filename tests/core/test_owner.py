"""Who has a run or a dataset is told to whoever comes second; what a dead owner left is taken over, once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core import owner
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import DataError, Interrupted, UsageError
from semiseg_cli.core.owner import DEAD, holder, owned
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

fork = multiprocessing.get_context("fork")


def holding(lock: Path, ready: Any) -> None:
    with owned(lock, "it"):
        ready.set()
        time.sleep(60)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A process that has the lock."""
    ready = fork.Event()
    process = fork.Process(target=holding, args=(tmp_path / ".owner", ready))
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_the_second_is_told_who_has_it_and_a_killed_owners_is_taken_over(tmp_path: Path, other: Any) -> None:
    lock = tmp_path / ".owner"
    with pytest.raises(UsageError, match="the run x is in use") as error, owned(lock, "the run x"):
        pass
    assert f"process {other.pid} on {os.uname().nodename} has it since 20" in error.value.why
    assert error.value.fix == "wait until it ends"
    assert holder(lock) == f"process {other.pid} on {os.uname().nodename}"
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert lock.exists()
    assert holder(lock) == holder(tmp_path / "absent" / ".owner") == ""
    with owned(lock, "the run x"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "left",
    [
        {"started": "1"},  # another process has the number now
        {"pid": 2**22 + 1},
        {"pid": -1},
        {"pid": "text"},
        {"host": "elsewhere", "age": DEAD + 1},
        {"space": "pid:[1]", "age": DEAD + 1},  # another container of this name
    ],
)
def test_what_a_dead_owner_left_is_taken_over(tmp_path: Path, left: dict[str, Any]) -> None:
    lock = tmp_path / ".owner"
    lock.write_text(json.dumps(owner._me() | left))
    os.utime(lock, (time.time() - left.get("age", 0),) * 2)
    with owned(lock, "it"):
        assert json.loads(lock.read_text())["started"] == owner._me()["started"]


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10_000, '{"pid": 1}'])
def test_what_cannot_be_read_is_somebodys_until_it_is_old(tmp_path: Path, text: str) -> None:
    lock = tmp_path / ".owner"
    lock.write_text(text)
    with pytest.raises(UsageError, match="in use"), owned(lock, "it"):
        pass
    os.utime(lock, (time.time() - DEAD - 1,) * 2)
    with owned(lock, "it"):
        pass


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".owner")
    with pytest.raises(UsageError, match="in use"), owned(tmp_path / ".owner", "it"):
        pass


def test_an_owner_elsewhere_is_told_with_its_age_and_the_way_to_remove_it(tmp_path: Path) -> None:
    lock = tmp_path / ".owner"
    lock.write_text(json.dumps(owner._me() | {"host": "node7", "pid": 12}))
    os.utime(lock, (time.time() - 90,) * 2)
    with pytest.raises(UsageError) as error, owned(lock, "it"):
        pass
    assert error.value.why.startswith("process 12 on node7 has it since ")
    assert "its last sign of life is 9" in error.value.why
    assert f"if it is gone: rm {lock}, or wait until that is 180 s old" in error.value.fix


def test_an_owner_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT", 0.02)
    lock = tmp_path / ".owner"
    with owned(lock, "it"):
        os.utime(lock, (1000.0, 1000.0))
        until = time.monotonic() + 10
        while lock.stat().st_mtime == 1000.0 and time.monotonic() < until:
            time.sleep(0.02)
        assert time.time() - lock.stat().st_mtime < 60


def racing(lock: Path, start: Any, wins: Any) -> None:
    start.wait()
    with suppress(UsageError), owned(lock, "it"):
        wins.put(os.getpid())
        time.sleep(0.5)


def test_a_dead_owners_is_taken_over_by_one_of_many(tmp_path: Path) -> None:
    lock = tmp_path / ".owner"
    lock.write_text(json.dumps(owner._me() | {"started": "1"}))
    start, wins = fork.Event(), fork.Queue()
    all = [fork.Process(target=racing, args=(lock, start, wins)) for _ in range(8)]
    for each in all:
        each.start()
    start.set()
    for each in all:
        each.join(20)
    assert [each.exitcode for each in all] == [0] * 8
    assert wins.get(timeout=5)
    assert wins.empty()


def test_where_there_are_no_locks_a_second_one_is_still_kept_out(tmp_path: Path, without_locks: None) -> None:
    lock = tmp_path / ".owner"
    with owned(lock, "it"), pytest.raises(UsageError, match="it is in use"), owned(lock, "it"):
        pass
    lock.write_text(json.dumps(owner._me() | {"started": "1"}))
    with owned(lock, "it"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


class Second(Silent):
    """A screen that does something when a step is done."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.errors = act, list[Exception]()

    def advance(self, step: int) -> None:
        if step == 1:
            return  # nothing is saved yet
        try:
            self.act()
        except (UsageError, DataError) as error:
            self.errors.append(error)


def test_a_run_that_goes_on_is_neither_resumed_nor_started_a_second_time(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path
) -> None:
    run, resolved = tmp_path / "run", configured("supervised", {"train.steps": 3, "train.save_every": 1})
    screens = list[Second]()
    for act, options in ((resume, {}), (train, {"runs_root": tmp_path, "out": run})):
        shutil.rmtree(run, ignore_errors=True)
        given = (run if act is resume else resolved,)
        screens.append(Second(partial(act, *given, data_root=shapes_root, device="cpu", **options)))  # type: ignore[arg-type]
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=run, device="cpu", screen=screens[-1])
        assert not (run / ".owner").exists()
    assert [str(error) for error in screens[0].errors] == [f"the run {run} is in use"] * 2
    assert "exists already and is not empty" in str(screens[1].errors[0])


def test_a_dataset_is_prepared_by_one_at_a_time_and_the_rest_of_a_killed_one_goes(tmp_path: Path) -> None:
    errors, partial = list[UsageError](), tmp_path / ".shapes.partial-xyz"
    partial.mkdir()

    class Progress:
        def __call__(self, count: int = 1) -> None:
            assert not partial.exists()
            with pytest.raises(UsageError, match=r"the dataset shapes in .* is in use") as error:
                prepare_shapes(tmp_path, labeled=2, unlabeled=1, val=1, size=32)
            errors.append(error.value)

        def __enter__(self) -> Progress:
            return self

        def __exit__(self, *rest: object) -> None:
            pass

    prepare_shapes(tmp_path, labeled=2, unlabeled=1, val=1, size=32, progress=lambda text, total: Progress())
    assert len(errors) == 4
    assert f"process {os.getpid()} on" in errors[0].why
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_lock_goes_with_what_interrupts(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), owned(tmp_path / ".owner", "it"):
        raise Interrupted("stopped")
    assert list(tmp_path.iterdir()) == []
