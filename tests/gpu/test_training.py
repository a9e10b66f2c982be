"""Training on CUDA: no step waits for the device, deterministic runs repeat, a stopped run goes on as if it had not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.models import DECODERS, build_segmenter
from semiseg_cli.core.settings import TrainConfig, hints
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.loop import Meter, one_step
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.setup import set_deterministic
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

Configured = Callable[..., Resolved]
STEPS, SIDE, COUNT = 8, 65, 3

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS),
    ("unimatch", {"exact_bn": True, "cutmix_partner": "self"}),
    ("ipixmatch", {"ema_teacher": True, "distance": "pearson"}),
    ("maskmatch", {"masked_task": "reconstruction", "mask": "block"}),
    ("s4mim", {"mim": "basic", "semantic": "mse", "backward": "joint"}),
    ("guidedmix", {"pairing": "precomputed"}),
    ("guidedmix", {"pairing": "random", "decoupling": "hard"}),
]
IDS = ["-".join([name, *map(str, settings.values())]) for name, settings in VARIANTS]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    set_deterministic(False)


def awake(method: str) -> dict[str, Any]:
    """Settings under which pseudo-labels count although the network knows nothing."""
    return {"tau": 0.0} if "tau" in hints(load_method(method).Settings) else {}


def plan_of(module: Train) -> Plan:
    inputs = module.method.inputs(module.method.settings)
    return Plan(seed=0, start=0, steps=STEPS, batch=COUNT, micro=COUNT, crop=SIDE, scale=(0.5, 2.0), inputs=inputs)


def pinned(batches: Callable[..., dict[str, Tensor]], inputs: frozenset[str]) -> Iterator[dict[str, Tensor]]:
    """What a loader with `pin` brings."""
    for step in range(STEPS):
        batch = batches(step, count=COUNT, side=SIDE)
        yield {key: value.pin_memory() for key, value in batch.items() if key.split("_")[0] in {"labeled", *inputs}}


@pytest.mark.parametrize(("method", "settings"), VARIANTS, ids=IDS)
def test_a_step_does_not_wait_for_the_device(
    method: str, settings: dict[str, Any], train_module: Callable[..., Train], host_batch: Callable[..., Any]
) -> None:
    module = train_module(method, **awake(method), **settings).cuda()
    module.amp = True
    module.method.build.class_weights = torch.ones(4, device="cuda")
    plan, config = plan_of(module), TrainConfig(steps=STEPS, batch=COUNT)
    optimizer = build_optimizer(module.method.groups(), config)
    batches, meter = pinned(host_batch, plan.inputs), Meter()
    for step in range(STEPS):  # the last steps: whatever settles within the first epoch has settled
        torch.cuda.set_sync_debug_mode("error" if step >= STEPS - 3 else "default")
        try:
            one_step(module, module.method, optimizer, batches, plan, Clock(step, STEPS, step), 1.0, meter)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert meter.finite()


@pytest.mark.parametrize(("method", "settings"), VARIANTS, ids=IDS)
def test_deterministic_steps_repeat_bit_for_bit(
    method: str, settings: dict[str, Any], train_module: Callable[..., Train], host_batch: Callable[..., Any]
) -> None:
    def weights() -> dict[str, Tensor]:
        module = train_module(method, **awake(method), **settings).cuda()
        plan = plan_of(module)
        optimizer = build_optimizer(module.method.groups(), TrainConfig(steps=STEPS, batch=COUNT))
        batches, meter = pinned(host_batch, plan.inputs), Meter()
        for step in range(STEPS):
            one_step(module, module.method, optimizer, batches, plan, Clock(step, STEPS, step), 0.0, meter)
        return module.state_dict()

    set_deterministic(True)
    one, two = weights(), weights()
    assert [key for key, value in one.items() if not torch.equal(value, two[key])] == []


@pytest.mark.parametrize("decoder", list(DECODERS))
@pytest.mark.parametrize("upsampling", ["bilinear", "corners", "nearest"])
def test_gradients_of_every_decoder_repeat_bit_for_bit(decoder: str, upsampling: str) -> None:
    net = build_segmenter("resnet18", decoder, 4, output_stride=16, upsampling=upsampling).cuda().train()
    image = torch.randn(2, 3, 97, 129, device="cuda")

    def gradients() -> list[Tensor]:
        net.zero_grad()
        net(image).logsumexp(1).sum().backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    set_deterministic(True)
    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


class Stopped(Silent):
    """Sends SIGTERM after a step, as a cluster does."""

    def advance(self, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("method", ["unimatch", "stpg", "s4mim"])
def test_a_resumed_run_is_the_uninterrupted_one(
    method: str, configured: Configured, shapes_root: Path, tmp_path: Path
) -> None:
    def losses(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in runs.read_metrics(run)]

    changes = {"train.deterministic": True, **{f"method.{key}": value for key, value in awake(method).items()}}
    places = {"data_root": shapes_root, "runs_root": tmp_path, "device": "cuda"}
    whole, run = tmp_path / "whole", tmp_path / "halves"
    train(configured(method, changes), out=whole, **places)
    with pytest.raises(Interrupted):
        train(configured(method, changes), out=run, screen=Stopped(), **places)
    resume(run, data_root=shapes_root, device="cuda")
    assert losses(run) == losses(whole)
    ours, theirs = load_file(run / "last.safetensors"), load_file(whole / "last.safetensors")
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_network_says_the_same_on_both_devices(configured: Configured, shapes_root: Path, tmp_path: Path) -> None:
    """A run of CUDA, evaluated on a CPU: within what float32 convolutions in another order may differ."""
    train(configured("unimatch", {"train.steps": 3}), data_root=shapes_root, runs_root=tmp_path, out=tmp_path / "run")
    net, _ = load_network(tmp_path / "run" / "last.safetensors")
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 65, 65)).astype(np.float32))
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad():
            here = net.eval()(image)
            there = net.cuda()(image.cuda()).cpu()
    finally:
        torch.backends.cudnn.allow_tf32 = True
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)
