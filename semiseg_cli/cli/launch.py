"""Several GPUs from one command: the same command line once per GPU, under torchrun's launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import typer

from semiseg_cli.cli import console, ranks
from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.stopping import asking


def on_gpus(gpus: int) -> None:
    """Start the command line once on each of several GPUs, and exit as they do; return where this is one of them."""
    if gpus > 1 and not ranks.joined():
        raise typer.Exit(relaunch(gpus, console.state.arguments))


def relaunch(gpus: int, arguments: Sequence[str]) -> int:
    """Run `semiseg <arguments>` on `gpus` GPUs of this machine; returns the exit code.

    Raises DeviceError if there are fewer.
    """
    import torch

    found = torch.cuda.device_count()
    if gpus > found:
        fix = f"--gpus {found}" if found > 1 else "leave --gpus out"
        raise DeviceError(f"--gpus {gpus}: this machine has {found} CUDA device{'s' * (found != 1)}", fix=fix)
    return launch(gpus, ["-m", "semiseg_cli", *without_gpus(arguments)])


def launch(processes: int, command: Sequence[str]) -> int:
    """Run `python <command>` as several processes that know of each other; returns the first failure's exit code.

    This is what the torchrun program does, less its traceback when a process fails: that one has told why itself.
    The processes are in sessions of their own; signals are passed on, and they get time to save.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", ",".join(each.name for each in asking()))
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode < 0:  # the others tell what it means for the run
            console.warn(f"process {rank} of {processes} was ended by {signal.Signals(-first.exitcode).name}")
        return max(first.exitcode, 1)
    except SignalException:
        return 130
    return 0


def without_gpus(arguments: Sequence[str]) -> list[str]:
    """The command line less its --gpus."""
    words, rest = iter(arguments), []
    for word in words:
        if word == "--gpus":
            next(words, None)
        elif not word.startswith("--gpus="):
            rest.append(word)
    return rest
