"""For tests of several processes: a function of a test file is called in each of two on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from fresh import begun


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def in_two_processes(
    act: Callable[[Path], None], folder: Path, timeout: float = 180, *, nodes: bool = False
) -> None:
    """Call `act(folder)` in two processes, as torchrun would (gloo, one thread each); both must end well.

    nodes: a process on each of two nodes, which are both this machine.
    """
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        begun(act, folder, environment={**environment, "RANK": str(rank), "LOCAL_RANK": "0" if nodes else str(rank)})
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            rank.join(timeout)
        assert [rank.exitcode for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
