"""For tests: what a CUDA graph does, on a CPU. Every operator of a step is noted with the tensors it took and gave.

Replaying runs them again, on the same memory: a step that is replayed later is as it would be only if all that makes
it differ lies in memory that somebody fills.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from semiseg_cli.core.training.inputs import Inputs

Known = Callable[[], Iterable[Tensor]]


class Tape(TorchDispatchMode):
    """Notes the operators that run within it. strangers: where tensors were used that no operator made, nor `known`."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        known = list(known)
        self.known, self.made = {_memory(tensor) for tensor in known}, set[int]()
        self.before = [(tensor.detach(), tensor.detach().clone()) for tensor in known]
        self.calls: list[tuple[Any, Any, Any, list[tuple[Tensor, bool]]]] = []
        self.strangers: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = {_memory(x) for x in _tensors((args, kwargs))}
        if taken - self.made - self.known:
            self.strangers.append(f"{func} at {_place()}")
        out = func(*args, **kwargs)
        given = [(x.detach(), _memory(x) not in taken) for x in _tensors(out)]
        self.made |= {_memory(x) for x, fresh in given if fresh}
        self.calls.append((func, args, kwargs, given))
        return out

    def undo(self) -> None:
        """Put back what was there before: recording has computed, capturing a graph would not have."""
        for tensor, before in self.before:
            tensor.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, given in self.calls:
            again = _tensors(func(*args, **kwargs))
            for (tensor, fresh), new in zip(given, again, strict=True):
                if fresh:
                    tensor.copy_(new)


class Tapes:
    """A `Recorder` for the CPU. known: the tensors that a step may use without having made them."""

    def __init__(self, known: Known) -> None:
        self.inputs, self.known, self.tapes = Inputs(torch.device("cpu")), known, list[Tape]()

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext()

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        tape = Tape([*self.known(), *(x for host in self.inputs.held for x in host.values())])
        self.tapes.append(tape)
        try:
            with tape:
                body()
        finally:
            tape.undo()
        return tape.replay


class Calls(TorchDispatchMode):
    """Notes the operators that run within it: their names, and shapes, types and numbers that they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tuple(_seen(x) for x in _leaves((args, kwargs or {})))
        self.calls.append((str(func), given))
        return func(*args, **(kwargs or {}))


def _seen(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.shape, x.stride(), x.dtype
    return x if isinstance(x, int | float | str) else str(type(x))


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in _leaves(tree) if isinstance(x, Tensor)]


def _leaves(tree: Any) -> list[Any]:
    """What is in the arguments of an operator; PyTorch's own takes as long as the operator."""
    if isinstance(tree, list | tuple):
        return [leaf for part in tree for leaf in _leaves(part)]
    return _leaves(list(tree.values())) if isinstance(tree, dict) else [tree]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _place() -> str:
    torch_folder = str(Path(torch.__file__).parent)
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(torch_folder):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
