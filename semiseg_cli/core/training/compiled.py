"""torch.compile of all networks of a run, and doing without it where shapes are many, or nothing is compiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import unwrap
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from semiseg_cli.core.networks import Compilable

# Forms of one network: with and without gradient, training or not, statistics moving or not, at every scale of a view;
# students and teachers count together.
FORMS = 64


def compile_networks(module: nn.Module, **how: Any) -> None:
    """Have all networks within compiled as they are first called, each for the very shapes that it is given.

    After all of them exist: a deep copy, as teachers are, is not compiled. how: more of `torch.compile`.
    """
    import torch._dynamo  # takes a second

    torch._dynamo.config.recompile_limit = max(FORMS, torch._dynamo.config.recompile_limit)
    for part in module.modules():
        if isinstance(part, Compilable):
            part.compile(dynamic=False, **how)


@contextmanager
def uncompiled(compiled: bool) -> Iterator[None]:
    """Within it, what is compiled runs as it was written: images of an evaluation have any size."""
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def without_compiler(mode: TorchDispatchMode) -> None:
    """Have a dispatch mode's own work done as it is written, where nothing of the process compiles.

    PyTorch wraps it against being compiled, and what it is wrapped in imports the compiler, which takes seconds.
    """
    if "torch._dynamo" not in sys.modules:
        mode.__torch_dispatch__ = MethodType(unwrap(type(mode).__torch_dispatch__), mode)  # type: ignore[method-assign]
