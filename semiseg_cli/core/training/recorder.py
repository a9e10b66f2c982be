"""What makes a graph of a step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import torch

from semiseg_cli.core.training.inputs import Inputs, StagedInputs


class Recorder(Protocol):
    """What makes a graph of a step. `CudaGraphs`; or, in tests, something that a CPU can do."""

    inputs: Inputs

    def stream(self) -> AbstractContextManager[None]:
        """Within it, steps are taken and replayed."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Record what `body` would do, without doing it; returns what does it."""


class CudaGraphs:
    """Records on a stream of its own, into memory that the graphs of all stages share: one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.inputs: Inputs = StagedInputs(device)
        self.own = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def stream(self) -> Iterator[None]:
        outside = torch.cuda.current_stream()
        self.own.wait_stream(outside)
        with torch.cuda.stream(self.own):
            yield
        outside.wait_stream(self.own)

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        try:
            # The loader's thread pins memory meanwhile, which is no matter of this one.
            with (
                _uncollected(),
                torch.cuda.graph(graph, pool=self.pool, stream=self.own, capture_error_mode="thread_local"),
            ):
                body()
        except BaseException:
            self._end()
            raise
        replay: Callable[[], None] = graph.replay
        return replay

    def _end(self) -> None:
        """End for the allocator what it takes for a capture that goes on: PyTorch leaves that out if CUDA's end fails.

        Raises nothing where it was ended, which the first call finds, nor where PyTorch has no such functions.
        """
        with suppress(AttributeError, RuntimeError):
            torch._C._cuda_endAllocateToPool(self.own.device_index, self.pool)
            torch._C._cuda_releasePool(self.own.device_index, self.pool)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Within it, no garbage is collected: freeing a tensor or a graph may do what a stream that is captured may not."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
