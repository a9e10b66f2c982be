"""When steps are captured, and micro-batches in memory that stays. What is captured: tests/contract, tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tape import Tapes
from toy import CONFIG, PLAN, Toy, wrapped

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import Diverged, UsageError
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.graph import MOST_PARTS, Captured, Stage, captures, check_graph, stepping, taking
from semiseg_cli.core.training.inputs import Inputs
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.views.tables import Tables
from semiseg_cli.stages.train import train

CUDA = World(device=torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("graph", "parts", "world", "captured"),
    [
        ("auto", 1, CUDA, True), ("auto", MOST_PARTS, CUDA, True), ("auto", 2 * MOST_PARTS, CUDA, False),
        ("auto", 1, replace(CUDA, size=2), True), ("auto", 1, World(), False),
        ("on", 2 * MOST_PARTS, CUDA, True), ("off", 1, CUDA, False), ("off", 1, World(), False),
    ],
)  # fmt: skip
def test_when_steps_are_captured(graph: Any, parts: int, world: World, captured: bool) -> None:
    plan = replace(PLAN, batch=2 * parts * world.size, micro=2, world=world.size)
    assert captures(replace(CONFIG, graph=graph), plan, world) is captured


def test_on_a_cpu_steps_are_taken_as_ever() -> None:
    method = Toy()
    update = Update(wrapped(method), build_optimizer(method.groups(), CONFIG), PLAN, 0.0, Meter(), World())
    assert stepping(update, CONFIG, print) is update


def test_graphs_that_are_asked_for_need_cuda(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path
) -> None:
    check_graph(replace(CONFIG, graph="on"), CUDA)
    with pytest.raises(UsageError, match="CUDA") as error:
        train(configured(changes={"train.graph": "on"}), data_root=shapes_root, runs_root=tmp_path, device="cpu")
    assert error.value.fix == "-s train.graph=auto"
    assert not list(tmp_path.iterdir())


def test_micro_batches_lie_where_the_first_did() -> None:
    inputs = Inputs(torch.device("cpu"))
    first = inputs.fill([{"a": torch.tensor([1, 2])}, {"a": torch.tensor([3, 4])}])
    second = inputs.fill([{"a": torch.tensor([5, 6])}, {"a": torch.tensor([7, 8])}])
    assert [host["a"].tolist() for host in second] == [[5, 6], [7, 8]]
    assert [host["a"].data_ptr() for host in first] == [host["a"].data_ptr() for host in second]


def test_no_graph_is_left_while_an_error_goes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames that its traceback holds have none: NCCL would wait for them."""
    update = Update(wrapped(method := Toy()), build_optimizer(method.groups(), CONFIG), PLAN, 0.0, Meter(), World())
    captured = Captured(update, Tapes(list), print)
    captured.stages["main"] = Stage(Tables(torch.device("cpu")), replay=lambda: None)
    monkeypatch.setattr("semiseg_cli.core.training.graph.stepping", lambda *_: captured)
    with pytest.raises(Diverged), taking(update, CONFIG, print):
        raise Diverged("the loss is not finite", why="a test", fix="none")
    assert captured.stages["main"].replay is None
