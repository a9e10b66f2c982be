"""Several commands of this program at once, each a process of its own that saves when it is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL = 0.5  # seconds between looks at what the processes do


@dataclass(frozen=True)
class Job:
    """words: what follows `semiseg`. log: the file that takes what it prints, in place of what is in it."""

    name: str
    words: tuple[str, ...]
    log: Path


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    *,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], object] = lambda: None,
    ended: Callable[[Job, int], object] = lambda job, code: None,
) -> dict[str, int]:
    """Run the jobs in their order, up to `at_once` at a time; the exit code of each by its name.

    environment: variables beside this process's. watch: called twice a second. ended: told when a job ends, and its
    code. One that fails stops no other. An exception, such as an interrupt, asks those at work to save, and waits.
    """
    waiting, codes = list(jobs), dict[str, int]()
    active = list[tuple[Job, subprocess.Popen[bytes]]]()  # two jobs may be equal
    try:
        while waiting or active:
            while waiting and len(active) < at_once:
                job = waiting.pop(0)
                active.append((job, _start(job, environment or {})))
            time.sleep(POLL)
            watch()
            for job, process in [pair for pair in active if pair[1].poll() is not None]:
                active.remove((job, process))
                codes[job.name] = process.returncode
                ended(job, process.returncode)
    finally:
        _stop([process for _, process in active])
    return codes


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "semiseg_cli", *job.words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment},
            start_new_session=True,  # the terminal's Ctrl-C comes to this process, which passes it on once
        )  # fmt: skip


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()
