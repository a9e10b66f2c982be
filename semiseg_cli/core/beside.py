"""Work that need not be waited for: one call after the other on a thread of its own, a few of them ahead at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def beside(most: int) -> Iterator[Callable[..., None]]:
    """Gives `put(function, *arguments)`, which returns at once, or when fewer than `most` calls wait.

    What a call raises is raised by a later `put`, or at the end, which waits for all of them. If the caller fails or
    is interrupted, the call that runs is finished and those that wait are not begun.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def put(function: Callable[..., Any], *arguments: Any) -> None:
            while waiting and (len(waiting) >= most or waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(function, *arguments))

        try:
            yield put
            while waiting:
                waiting.popleft().result()
        finally:
            for call in waiting:
                call.cancel()
