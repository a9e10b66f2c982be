"""Work on many images, on all cores at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

AHEAD = 1024  # tasks that are waiting or done before the first of them is: each takes more than a kilobyte

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(work: Callable[[Task], Result], tasks: Iterable[Task]) -> tuple[Result, ...]:
    """`work` on every task, in order, in threads: decoding, resizing and encoding all release Python's lock."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # one image per core, rather than every core on every image
    pool = ThreadPoolExecutor(os.cpu_count())
    ahead, results = deque[Future[Result]](), list[Result]()
    try:
        for task in tasks:
            if len(ahead) == AHEAD:
                results.append(ahead.popleft().result())
            ahead.append(pool.submit(work, task))
        while ahead:
            results.append(ahead.popleft().result())
        return tuple(results)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or an interrupt: no further task is begun
        cv2.setNumThreads(threads)
