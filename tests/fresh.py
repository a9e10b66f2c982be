"""For tests: processes that have computed nothing, in a fraction of the time that an interpreter takes to start.

They are forked by a process of a pytest worker that has imported PyTorch and the package, and did nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["pytest", "torch.distributed.launcher.api", "semiseg_cli.cli"]
    + [f"semiseg_cli.stages.{stage}" for stage in ("evaluate", "pick", "predict", "probe", "train", "update")]
)


def begun(
    act: Callable[..., int | None], *given: Any, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> BaseProcess:
    """A process in a session of its own, with one thread, whose exit code is what a function of a module returns.

    folder: it works there, and what it says is in the files `stdout` and `stderr`.
    """
    process = SERVER.Process(target=_live, args=(act, given, folder, dict(environment)))
    process.start()
    return process


def run_without(modules: Sequence[str], code: str) -> None:
    """For `begun`: lines of Python where nothing of the package has been imported yet, and some modules cannot be."""
    gone = {"semiseg_cli", *(name.split(".")[0] for name in modules)}
    for name in [name for name in sys.modules if name.split(".")[0] in gone]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(modules))  # type: ignore[arg-type]  # None: importing it is an error
    exec(code, {})


def kill_at(place: Any, name: str, call: int) -> None:
    """This process is killed, with no time to say so, before the function of that name is called for the `call`-th time
    from 0 on."""
    function, left = getattr(place, name), call

    def counted(*given: Any) -> Any:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*given)

    setattr(place, name, counted)


def _live(act: Callable[..., int | None], given: Any, folder: Path | None, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    if folder:
        os.chdir(folder)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), stream)
    torch.set_num_threads(1)
    sys.exit(act(*given))
