"""Training on CUDA: no step waits for the device, deterministic runs repeat, a stopped run goes on as if it had not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from steps import fed
from torch import Tensor

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.models import DECODERS, build_segmenter
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.settings import TrainConfig, hints
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.setup import set_deterministic
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

Configured = Callable[..., Resolved]
Batches = Callable[..., dict[str, Tensor]]
STEPS, SIDE, COUNT = 8, 65, 3


@dataclass(frozen=True)
class Variant:
    """A method with one of its switches turned, or with a plug-in."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = ""

    def __str__(self) -> str:
        turned = [f"{name}={value}" for name, value in self.settings.items()]
        return "-".join([self.method, *turned, *filter(None, [self.plugin])])


def switches(settings: type) -> Iterator[dict[str, Any]]:
    """Every other value of every setting that is a choice."""
    for name, kind in hints(settings).items():
        default, choice = getattr(settings, name), get_args(kind)[0]
        values = (True, False) if choice is bool else get_args(choice) if get_origin(choice) is Literal else ()
        yield from ({name: value} for value in values if value != default)


def host_of(plugin: str) -> str:
    """A method that the plug-in can be added to."""
    acts_on = load_plugin(plugin).acts_on
    return next(name for name in METHODS if acts_on in load_method(name).offers)


VARIANTS = [
    *(Variant(name) for name in METHODS),
    *(Variant(name, turned) for name in METHODS for turned in switches(load_method(name).Settings)),
    *(Variant(host_of(plugin), plugin=plugin) for plugin in PLUGINS),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    set_deterministic(False)


def awake(settings: type) -> dict[str, Any]:
    """Thresholds under which pseudo-labels count although the network knows nothing."""
    return {name: 0.0 for name in ("tau", "phi") if name in hints(settings)}


def built(variant: Variant, train_module: Callable[..., Train]) -> Train:
    module = train_module(variant.method, **awake(load_method(variant.method).Settings) | variant.settings)
    if variant.plugin:
        cls = load_plugin(variant.plugin)
        plugin = cls(cls.Settings(**awake(cls.Settings)), module.method.build)
        module.method = Extended(module.method, {variant.plugin: plugin})
    return module.cuda()


def learn(module: Train, variant: Variant, batches: Batches, clip: float = 0.0, watched: int = STEPS) -> Meter:
    """Steps on what a loader with `pin` brings; from step `watched` on it is an error to wait for the device."""
    inputs = load_method(variant.method).inputs(module.method.settings)
    plan = Plan(seed=0, start=0, steps=STEPS, batch=COUNT, micro=COUNT, crop=SIDE, scale=(0.5, 2.0), inputs=inputs)
    hosts = (fed(module, batches(step, count=COUNT, side=SIDE)) for step in range(STEPS))
    pinned = ({key: value.pin_memory() for key, value in host.items()} for host in hosts)
    optimizer, meter = build_optimizer(module.method.groups(), TrainConfig(steps=STEPS, batch=COUNT)), Meter()
    take = Update(module, optimizer, plan, clip, meter, World())
    for step in range(STEPS):
        torch.cuda.set_sync_debug_mode("error" if step >= watched else "default")
        try:
            take(pinned, Clock(step, STEPS, step))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return meter


@pytest.mark.parametrize(
    ("variant", "loss"), [*((variant, "ce") for variant in VARIANTS), (Variant("supervised"), "ohem")], ids=str
)
def test_a_step_does_not_wait_for_the_device(
    variant: Variant, loss: str, train_module: Callable[..., Train], host_batch: Batches
) -> None:
    module = built(variant, train_module)
    module.amp = True
    module.method.build.class_weights, module.method.build.loss = torch.ones(4, device="cuda"), loss
    meter = learn(module, variant, host_batch, clip=1.0, watched=STEPS - 3)  # what settles in the first epoch has
    assert meter.finite()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_deterministic_steps_repeat_bit_for_bit(
    variant: Variant, train_module: Callable[..., Train], host_batch: Batches
) -> None:
    def weights() -> dict[str, Tensor]:
        module = built(variant, train_module)
        learn(module, variant, host_batch)
        return module.state_dict()

    set_deterministic(True)
    one, two = weights(), weights()
    assert [key for key, value in one.items() if not torch.equal(value, two[key])] == []


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("upsampling", ["bilinear", "corners", "nearest"])
def test_gradients_of_every_decoder_repeat_bit_for_bit(decoder: str, upsampling: str, patches: object) -> None:
    backbone, sides = ("patches", (98, 126)) if decoder == "dpt" else ("resnet18", (97, 129))
    net = build_segmenter(backbone, decoder, 4, output_stride=16, upsampling=upsampling).cuda().train()
    image = torch.randn(2, 3, *sides, device="cuda")

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


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_uninterrupted_one(
    method: str, configured: Configured, shapes_root: Path, tmp_path: Path
) -> None:
    def losses(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(run)]

    own = awake(load_method(method).Settings)
    changes = {"train.deterministic": True, **{f"method.{key}": value for key, value in own.items()}}
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
