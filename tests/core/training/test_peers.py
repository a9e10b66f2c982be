"""A process that dies is named by the others, which end; what one is asked, all know. In processes of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from semiseg_cli.core.errors import DataError, ProcessLost
from semiseg_cli.core.ops.processes import summed
from semiseg_cli.core.training import peers
from semiseg_cli.core.training.distributed import World, barrier, joined
from semiseg_cli.core.training.peers import Peers, heard

SIZE = 3


def exchange(world: World) -> None:
    """What every process does until one of them is gone."""
    for _ in range(10_000):
        summed(torch.ones(2))
        time.sleep(0.01)


def killed(lost: int) -> Callable[[World], None]:
    def act(world: World) -> None:
        if world.rank == lost:
            os.kill(os.getpid(), signal.SIGKILL)
        exchange(world)

    return act


def failed(world: World) -> None:
    if world.rank == 1:
        raise DataError("cannot read\na file")
    exchange(world)


def waiting_elsewhere(world: World) -> None:
    """As on a device, where no exchange fails: its host waits for ever."""
    if world.rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def asked(world: World) -> None:
    """One process is asked to stop; the others hear of it without an exchange."""
    stopping = heard(lambda: world.rank == 1, world.peers)
    until = time.monotonic() + 20
    while not stopping() and time.monotonic() < until:
        time.sleep(0.01)
    assert stopping()
    barrier(world)
    assert world.peers.lost is None


def process(rank: int, port: int, folder: Path, act: Callable[[World], None]) -> None:
    os.environ.update(WORLD_SIZE=str(SIZE), RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    peers.GRACE = 1.0
    sys.stderr = (folder / f"{rank}.stderr").open("w")
    end = {"end": "well"}
    try:
        with joined("cpu") as world:
            world.peers.resume = "semiseg train --resume runs/a"
            barrier(world)
            act(world)
    except ProcessLost as error:
        end = {"end": "lost", "what": error.what, "why": error.why, "fix": error.fix, "told": str(error.told)}
    except DataError as error:
        end = {"end": error.what}
    (folder / f"{rank}.json").write_text(json.dumps(end))
    os._exit(0)


@pytest.fixture
def ends(tmp_path: Path) -> Callable[[Callable[[World], None]], list[dict[str, str]]]:
    """How three processes end, each within twenty seconds: what it said, and its exit code and standard error."""

    def run(act: Callable[[World], None]) -> list[dict[str, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        ranks = [context.Process(target=process, args=(rank, port, tmp_path, act)) for rank in range(SIZE)]
        for rank in ranks:
            rank.start()
        try:
            until = time.monotonic() + 20
            for rank in ranks:
                rank.join(max(until - time.monotonic(), 0))
            assert all(rank.exitcode is not None for rank in ranks), "one hangs"
        finally:
            for rank in ranks:
                rank.kill()
        found = list[dict[str, str]]()
        for number, rank in enumerate(ranks):
            end = dict[str, str]()
            with suppress(FileNotFoundError):
                end = json.loads((tmp_path / f"{number}.json").read_text())
            said = (tmp_path / f"{number}.stderr").read_text(errors="replace")
            found.append(end | {"code": str(rank.exitcode), "stderr": said})
        return found

    return run


@pytest.mark.parametrize(("lost", "teller"), [(1, 0), (0, 1)])
def test_a_process_that_is_killed_is_named_by_one_of_the_others_and_all_end(
    ends: Callable[..., list[dict[str, str]]], lost: int, teller: int
) -> None:
    found = ends(killed(lost))
    assert found[lost]["code"] == "-9"
    for rank in set(range(SIZE)) - {lost}:
        assert found[rank]["end"] == "lost"
        assert found[rank]["what"] == f"process {lost} of 3 was killed, or its machine is gone"
        assert "lack of memory" in found[rank]["why"]
        assert found[rank]["fix"] == "semiseg train --resume runs/a"
        assert found[rank]["told"] == str(rank != teller)


def test_a_process_that_fails_tells_itself_and_the_others_end(ends: Callable[..., list[dict[str, str]]]) -> None:
    found = ends(failed)
    assert found[1]["end"] == "cannot read\na file"
    for rank in (0, 2):
        assert found[rank]["what"] == "process 1 of 3 ended"
        assert found[rank]["why"] == "cannot read a file"
        assert found[rank]["told"] == "True"


def test_who_waits_on_a_device_for_a_process_that_is_gone_is_ended(ends: Callable[..., list[dict[str, str]]]) -> None:
    found = ends(waiting_elsewhere)
    assert [each["code"] for each in found] == ["4", "4", "-9"]
    first, *rest = found[0]["stderr"].strip().splitlines()
    assert first == "error: process 2 of 3 was killed, or its machine is gone"
    assert rest[-1].strip() == "try: semiseg train --resume runs/a"
    assert "error:" not in found[1]["stderr"]  # one tells it


def test_what_one_is_asked_all_hear_and_nobody_is_missed_at_the_end(ends: Callable[..., list[dict[str, str]]]) -> None:
    assert [each["end"] for each in ends(asked)] == ["well"] * SIZE


def test_alone_nobody_can_be_lost() -> None:
    alone, wish = Peers(), [False]
    stopping = heard(lambda: wish[0], alone)
    assert alone.error(5) is None
    assert not stopping()
    wish[0] = True
    assert stopping()
    alone.leave()
