"""How the processes of a command find one another, at the address that torchrun or SLURM gave them."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from semiseg_cli.core.errors import DeviceError

QUIET = 20.0  # seconds that they wait for one another without a word
FIX = "export MASTER_ADDR=ADDRESS (and MASTER_PORT=PORT): of the machine of process 0, as the others reach it"


def meet(backend: str) -> None:
    """Wait until all processes are there. DeviceError where they cannot meet; after QUIET seconds it is told who waits.

    backend: nccl, or gloo.
    """
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:  # PyTorch would ask again for half an hour
        rank, here = os.environ.get("RANK", "0"), socket.gethostname()
        what = f"process {rank}, on {here}, cannot find the machine '{host}', where all processes are to meet"
        raise DeviceError(what, why=str(error), fix=FIX) from None
    try:
        with _told(f"still waiting for all {os.environ.get('WORLD_SIZE')} processes, at {host}:{port}"):
            dist.init_process_group(backend)
    except dist.DistError as error:
        why = str(error).split("\n")[0]
        raise DeviceError(f"the processes do not meet at {host}:{port}", why=why, fix=FIX) from error


@contextmanager
def _told(text: str) -> Iterator[None]:
    waiting = threading.Timer(QUIET, warnings.warn, [text], {"stacklevel": 2})
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()
