"""Items made by processes of their own, in order. One that dies is replaced once, and no item is lost or made twice."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from semiseg_cli.core.errors import SemisegError, WorkerLost

Item = TypeVar("Item")


def made(
    source: Dataset[Item | SemisegError],
    order: Sequence[int],
    workers: int,
    begin: Callable[[int], None],
    *,
    pin: bool,
    ahead: int,
) -> Generator[Item, None, None]:
    """The items of `order`. Raises an error that is an item, and WorkerLost where a second process dies.

    An item depends on its number alone, so that those of processes that died are made anew. begin: what each process
    does first. ahead: how many items each makes before they are asked for. They end with the iterator: after its last
    item, at an error, and when it is closed.
    """
    done, died = 0, False
    while True:
        loaded = _loading(source, order[done:], workers, begin, pin, ahead)
        try:
            for item in loaded:
                if isinstance(item, SemisegError):
                    raise item
                yield item
                done += 1
            return
        except RuntimeError as error:  # of torch's; but so are some of ours
            how = [] if isinstance(error, SemisegError) or not workers else _ended(loaded)
            if not how:
                raise
            if died:
                raise _lost(how[0]) from error
            died = True
            warnings.warn(f"a process that loads images {how[0]}; others take up where it stood", stacklevel=1)
        finally:
            # torch ends them with the last reference, but an error's traceback holds references for who knows how long
            if workers:
                loaded._shutdown_workers()


def _loading(
    source: Any, order: Sequence[int], workers: int, begin: Callable[[int], None], pin: bool, ahead: int
) -> Any:
    fork = workers > 0 and "fork" in multiprocessing.get_all_start_methods()  # so that workers share the cache
    files = DataLoader(
        source,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        pin_memory=pin,
        multiprocessing_context="fork" if fork else None,
        worker_init_fn=begin,
        prefetch_factor=ahead if workers else None,
        generator=torch.Generator(),  # its own: the global stream of random numbers stays where it is
    )
    if not workers or threading.current_thread() is not threading.main_thread():
        return iter(files)
    # Torch has a death raise wherever the training process is, in the middle of a step; asking for an item will do.
    before = signal.getsignal(signal.SIGCHLD)
    loaded = iter(files)
    signal.signal(signal.SIGCHLD, before)
    return loaded


def _ended(loaded: Any) -> list[str]:
    """How those processes ended that are no more."""
    codes = [worker.exitcode for worker in loaded._workers if not worker.is_alive()]
    return [f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}" for code in codes]


def _lost(how: str) -> WorkerLost:
    return WorkerLost(
        f"a process that loads images {how}, after another one that had been replaced",
        why="usually the system ends them for lack of memory (dmesg tells)",
        fix="free some memory, or begin a new run with fewer of them (-s train.workers=1) or a smaller train.cache_mb",
    )
