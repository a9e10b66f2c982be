"""Learning rates in closed form, and the groups of the optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg_cli.core.methods.base import Group
from semiseg_cli.core.settings import TrainConfig, Unread
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates


def parameters(count: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)) for _ in range(count)]


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_rates_of_every_group_and_step(kind: str) -> None:
    config = TrainConfig(steps=100, lr=0.01, head_lr_multiplier=10, optimizer=kind)
    groups = [
        Group(parameters(2)),
        Group(parameters(1), head=True),
        Group(parameters(1), head=True, schedule="constant"),
        Group(parameters(1), lr_mult=0.5),
    ]
    optimizer = build_optimizer(groups, config)
    for step in (0, 1, 50, 99):
        poly = (1 - step / 100) ** 0.9
        assert set_learning_rates(optimizer, step, config) == pytest.approx(0.01 * poly)
        assert rates(optimizer) == pytest.approx([0.01 * poly, 0.1 * poly, 0.1, 0.005 * poly])


def test_the_last_step_still_learns() -> None:
    config = TrainConfig(steps=1000, lr=1.0)
    optimizer = build_optimizer([Group(parameters(1))], config)
    assert set_learning_rates(optimizer, 999, config) == pytest.approx(0.001**0.9)


def test_a_linear_rise() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup_steps=4)
    optimizer = build_optimizer([Group(parameters(1)), Group(parameters(1), schedule="constant")], config)
    for step, rise in enumerate([0.25, 0.5, 0.75, 1.0, 1.0]):
        set_learning_rates(optimizer, step, config)
        assert rates(optimizer) == pytest.approx([rise * (1 - step / 100) ** 0.9, rise])


def test_a_momentum_that_no_optimiser_has_is_refused() -> None:
    with pytest.raises(Unread, match=r"train\.momentum = 0\.8 .* its default, where train\.optimizer is adamw"):
        TrainConfig(optimizer="adamw", momentum=0.8)


def test_groups_keep_their_parameters_and_empty_ones_go() -> None:
    config = TrainConfig(momentum=0.8, weight_decay=0.02)
    encoder, head = parameters(2), parameters(1)
    optimizer = build_optimizer([Group(encoder), Group([]), Group(head, head=True)], config)
    assert [[id(p) for p in g["params"]] for g in optimizer.param_groups] == [
        [id(p) for p in encoder],
        [id(p) for p in head],
    ]
    assert {g["momentum"] for g in optimizer.param_groups} == {0.8}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.02}


def test_what_learns_later_than_the_rest_of_its_group_begins_at_rest() -> None:
    """After a warm-up: its first step is its gradient's, as if it had come first."""
    config = TrainConfig(steps=100, lr=0.1, momentum=0.9, weight_decay=0.0)
    early, late = parameters(2)
    optimizer = build_optimizer([Group([early, late])], config)
    for step in range(3):
        set_learning_rates(optimizer, step, config)
        early.grad = torch.ones(2)
        late.grad = torch.full((2,), 2.0) if step == 2 else None
        before = late.tolist()
        optimizer.step()
    assert before == [1.0, 1.0]
    assert late.tolist() == pytest.approx([1 - 0.1 * (1 - 2 / 100) ** 0.9 * 2] * 2)


def test_two_steps_of_sgd_by_hand() -> None:
    config = TrainConfig(steps=2, lr=0.1, momentum=0.9, weight_decay=0.5)
    (p,) = parameters(1)
    optimizer = build_optimizer([Group([p])], config)
    value, speed = 1.0, 0.0
    for step, gradient in enumerate([2.0, -1.0]):
        set_learning_rates(optimizer, step, config)
        p.grad = torch.full((2,), gradient)
        optimizer.step()
        speed = 0.9 * speed + gradient + 0.5 * value
        value -= 0.1 * (1 - step / 2) ** 0.9 * speed
    assert p.tolist() == pytest.approx([value, value])
