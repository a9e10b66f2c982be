"""Every method trains a plain transformer with DPT and a pyramid of timm's. Frozen, an encoder stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vit import VIT
from steps import fed, whole_step
from torch import Tensor

from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.settings import TrainConfig, hints
from semiseg_cli.core.training.checkpoint import load_state, save_state
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock

PYRAMID = {"backbone": "timm:test_convnext", "decoder": "upernet", "output_stride": 32}
SIDES = {"small_vit": 42, "timm:test_convnext": 48}  # of an image
TRAIN = TrainConfig(steps=10, optimizer="adamw", lr=1e-3)

pytestmark = pytest.mark.usefixtures("vit_network")
Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]


def made(train_module: Make, method: str, spec: dict[str, Any] = VIT, **model: Any) -> Train:
    awake = {name: 0.0 for name in ("tau", "phi") if name in hints(load_method(method).Settings)}
    return train_module(method, spec=spec | model, **awake)


def learn(train: Train, optimizer: torch.optim.Optimizer, batches: Batches, steps: range) -> list[dict[str, float]]:
    rows = []
    for step in steps:
        out = whole_step(train, fed(train, batches(step, side=SIDES["small_vit"])), Clock(step, TRAIN.steps))
        optimizer.step()
        optimizer.zero_grad()
        train.method.after_step(Clock(step, TRAIN.steps))
        rows.append({name: value.item() for name, value in out.losses.items()})
    return rows


@pytest.mark.parametrize("spec", [VIT, PYRAMID], ids=["vit", "pyramid"])
@pytest.mark.parametrize("method", METHODS)
def test_it_learns(method: str, spec: dict[str, Any], train_module: Make, host_batch: Batches) -> None:
    train = made(train_module, method, spec)
    out = whole_step(train, fed(train, host_batch(side=SIDES[spec["backbone"]])), Clock(9, TRAIN.steps))
    assert all(value.isfinite() for value in out.losses.values())
    trained = {name: p.grad for name, p in train.named_parameters() if p.requires_grad}
    assert not [name for name, grad in trained.items() if grad is None]
    assert all(grad.isfinite().all() for grad in trained.values() if grad is not None)
    firsts = [next(m.encoder.parameters()) for m in train.modules() if isinstance(m, Segmenter)]
    assert all(first.grad is not None and first.grad.any() for first in firsts if first.requires_grad)
    with torch.no_grad():
        assert train.method.deployed()(torch.randn(1, 3, 50, 30)).shape == (1, 4, 50, 30)


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_encoder_stays_as_it_is(method: str, train_module: Make, host_batch: Batches) -> None:
    train = made(train_module, method, freeze_encoder=True)
    nets = [m for m in train.modules() if isinstance(m, Segmenter)]
    before = {key: value.clone() for key, value in train.state_dict().items()}
    for net in nets:
        assert not net.encoder.training
        net.encoder.register_forward_hook(lambda _, inputs, maps: _nothing_is_kept(maps))
    optimizer = build_optimizer(train.method.groups(), TRAIN)
    learn(train, optimizer, host_batch, range(8, 10))
    moved = [key for key, value in train.state_dict().items() if not torch.equal(value, before[key])]
    assert not [key for key in moved if ".encoder." in key]
    assert [key for key in moved if ".decoder." in key]
    encoders = {id(p) for net in nets for p in net.encoder.parameters()}
    assert not [p for p in optimizer.state if id(p) in encoders]
    assert not [p for group in optimizer.param_groups for p in group["params"] if id(p) in encoders]


def _nothing_is_kept(maps: list[Tensor]) -> None:
    assert not any(x.requires_grad for x in maps)


def test_a_run_with_a_frozen_encoder_goes_on_from_its_state(
    train_module: Make, host_batch: Batches, tmp_path: Path
) -> None:
    one, two = (made(train_module, "unimatchv2", freeze_encoder=True) for _ in range(2))
    optimizers = [build_optimizer(train.method.groups(), TRAIN) for train in (one, two)]
    learn(one, optimizers[0], host_batch, range(2))
    save_state(tmp_path / "state.safetensors", one, optimizers[0], {"step": 2})
    with torch.no_grad():
        for p in two.parameters():
            p.fill_(0.5)
    load_state(tmp_path / "state.safetensors", two, optimizers[1])
    assert learn(two, optimizers[1], host_batch, range(2, 4)) == learn(one, optimizers[0], host_batch, range(2, 4))
