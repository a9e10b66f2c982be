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


def on_two_nodes(script: str, folder: Path, timeout: float = 300) -> None:
    """Run a file with a folder under the torchrun of two nodes, which are both this machine, a process on each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1"]
    paths = os.pathsep.join([str(ROOT), str(TESTS)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen([*torchrun, script, str(folder)], env=environment) for _ in range(2)]
    try:
        assert [node.wait(timeout=timeout) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.terminate()


def in_two_processes(script: str, folder: Path, timeout: float = 180) -> None:
    """Run a file with a folder in two processes, as torchrun would (gloo, one thread each); both must end well."""
    port = free_port()
    paths = os.pathsep.join([str(ROOT), str(TESTS)])  # as pytest has them
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": paths}
    environment = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(folder)], env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=timeout) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
