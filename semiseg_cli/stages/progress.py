"""How a stage reports progress without knowing a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]  # (description, total) -> advance(count=1)


@contextmanager
def silent(description: str, total: int) -> Iterator[Callable[..., None]]:
    """No progress display."""
    yield lambda count=1: None
