"""Work on many images, on all cores at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(work: Callable[[Task], Result], tasks: list[Task]) -> tuple[Result, ...]:
    """`work` on every task, in order, in threads: decoding, resizing and encoding all release Python's lock."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # one image per core, rather than every core on every image
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return tuple(pool.map(work, tasks))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or an interrupt: no further task is begun
        cv2.setNumThreads(threads)
