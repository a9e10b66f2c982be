"""train.compile: which networks are compiled, for which shapes, and that it changes nothing but the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captures import Case, Run, built
from torch import Tensor

from semiseg_cli.core.networks import Compilable
from semiseg_cli.core.training.compiled import compile_networks, uncompiled
from semiseg_cli.core.training.step import Train


@pytest.fixture
def compiled() -> Any:
    """A compiler that counts: whether any size was left open, for every graph that it is given. It compiles nothing."""
    torch.compiler.reset()
    graphs: list[bool] = []

    def backend(graph: Any, examples: list[Any]) -> Callable[..., Any]:
        graphs.append(any(isinstance(x, torch.SymInt) for x in examples))
        return graph.forward

    yield graphs, backend
    torch.compiler.reset()


def test_all_networks_are_compiled_for_their_shapes_and_compute_the_same(
    train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]], compiled: Any
) -> None:
    """A student, and its teacher, which is a deep copy."""
    graphs, backend = compiled
    case = Case("meanteacher", settings={"warmup": 0.0})
    plain, run = (Run(built(case, train_module), host_batch) for _ in range(2))
    compile_networks(run.train, backend=backend)
    parts = [part for part in run.train.modules() if isinstance(part, Compilable)]
    assert len(parts) == 2 * 2
    assert all(part._compiled_call_impl is not None for part in parts)
    plain.go(plain.update, range(2))
    run.go(run.update, range(1))
    made = len(graphs)
    assert made >= len(parts)
    assert not any(graphs)
    run.go(run.update, range(1, 2))
    assert len(graphs) == made  # nothing is compiled again
    assert run.rows == plain.rows
    with uncompiled(True), torch.no_grad():
        run.train.method.deployed()(torch.zeros(1, 3, 41, 57))
    assert len(graphs) == made


def test_a_papers_own_decoder_is_compiled_too(train_module: Callable[..., Train], compiled: Any) -> None:
    module = train_module("s4mim")
    compile_networks(module, backend=compiled[1])
    pid: Any = module.method.pid
    assert pid._compiled_call_impl is not None
