"""For tests of several processes: a test file that is run as a script is each of two processes on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def in_two_processes(script: str, folder: Path, timeout: float = 180, *, nodes: bool = False) -> None:
    """Run a file with a folder in two processes, as torchrun would (gloo, one thread each); both must end well.

    nodes: a process on each of two nodes, which are both this machine.
    """
    port = free_port()
    paths = os.pathsep.join([str(ROOT), str(TESTS)])  # as pytest has them
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": paths}
    environment = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": "0" if nodes else str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=timeout) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
