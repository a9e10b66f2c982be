"""Several GPUs from one command: start the same command line once per GPU under torchrun, and keep its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from semiseg_cli.core.errors import DeviceError

CODE_FILE = "SEMISEG_EXIT_CODE_FILE"  # torchrun turns every failure into 1: the first process to fail leaves its code


def is_main() -> bool:
    """Whether this process talks: the only one, or the first of those that torchrun or SLURM started."""
    return int(os.environ.get("RANK", "0")) == 0


def joined() -> bool:
    """Whether this process was started as one of several."""
    return "WORLD_SIZE" in os.environ


def relaunch(gpus: int, arguments: Sequence[str]) -> int:
    """Run `semiseg <arguments>` on `gpus` GPUs of this machine; returns the exit code.

    Raises DeviceError if there are fewer.
    """
    import torch

    found = torch.cuda.device_count()
    if gpus > found:
        raise DeviceError(f"--gpus {gpus}: this machine has {found} CUDA device{'s' * (found != 1)}", fix=_fewer(found))
    with tempfile.TemporaryDirectory(prefix="semiseg-") as folder:
        code_file = Path(folder) / "code"
        code = _wait(command(gpus, arguments), {**os.environ, CODE_FILE: str(code_file)})
        return int(code_file.read_text()) if code and code_file.exists() else code


def command(gpus: int, arguments: Sequence[str]) -> list[str]:
    """The torchrun command for `semiseg <arguments>`, without its --gpus."""
    words, rest = iter(arguments), []
    for word in words:
        if word == "--gpus":
            next(words, None)
        elif not word.startswith("--gpus="):
            rest.append(word)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)]
    return [*torchrun, "-m", "semiseg_cli", *rest]


def leave_code(code: int) -> None:
    """In a process of `relaunch`: leave the exit code of the first failure."""
    if code and CODE_FILE in os.environ:
        with contextlib.suppress(FileExistsError), open(os.environ[CODE_FILE], "x", encoding="utf-8") as file:
            file.write(str(code))


def _wait(command: Sequence[str], environment: dict[str, str]) -> int:
    """Wait for the command. The processes save and stop when interrupted, so that this one only passes it on."""
    process = subprocess.Popen(command, env=environment)
    previous = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole process group by itself
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fewer(found: int) -> str:
    return f"--gpus {found}" if found > 1 else "leave --gpus out"
