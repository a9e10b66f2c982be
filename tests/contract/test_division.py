"""A batch may be divided, into micro-batches and among processes: with batch norm frozen the gradient is the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_small import SMALL, known
from safetensors.torch import load_file, save_file
from steps import fed, whole_step
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from two import in_two_processes

from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.ops.draws import neighbours
from semiseg_cli.core.settings import hints
from semiseg_cli.core.training.distributed import World, average_gradients, joined
from semiseg_cli.core.training.step import Builder, Step, Train
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views.device import ViewSettings
from semiseg_cli.core.views.photometric import Photometric

BATCH, SIDE, CLASSES, CLOCK = 4, 33, 4, Clock(9, 10)


def settings(name: str) -> dict[str, Any]:
    """Every pseudo-label counts, and what a paper's own words say cannot be divided is off."""
    method = load_method(name)
    return dict(method.divisible) | ({"tau": 0.0} if "tau" in hints(method.Settings) else {})


def module(name: str) -> Train:
    """In float64, with batch norms that stay as they are."""
    weights = torch.tensor([0.4, 1.0, 2.0, 0.6], dtype=torch.float64)
    cls = load_method(name)
    built = cls(cls.Settings(**settings(name)), Builder(SMALL, CLASSES, class_weights=weights))
    views = ViewSettings(Photometric(), cutmix=1.0)
    train = Train(built, seed=0, mean=(0.5,) * 3, std=(0.2,) * 3, views=views).double().train()
    for norm in (m for m in train.modules() if isinstance(m, _BatchNorm)):
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign,misc]
    return train


def batch() -> dict[str, Tensor]:
    """Images that differ in how much of them is padding and how much is labeled."""
    rng, host = np.random.default_rng(5), dict[str, Tensor]()
    for name in ("labeled", "unlabeled", "paired"):
        image = rng.integers(0, 255, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
        mask = rng.integers(0, CLASSES, (BATCH, SIDE, SIDE), dtype=np.uint8)
        valid = np.ones((BATCH, SIDE, SIDE), np.uint8)
        for i in range(BATCH):
            valid[i, SIDE - 7 * i :] = 0
            mask[i, :, : 5 * i] = 255
        mask[valid == 0] = 255
        arrays = {"image": image, "mask": mask, "valid": valid, "index": np.arange(BATCH)}
        host |= {f"{name}_{key}": torch.from_numpy(value) for key, value in arrays.items()}
    return host


def part_of(host: dict[str, Tensor], slots: np.ndarray) -> dict[str, Tensor]:
    """What the loader brings for some slots: their images, and their neighbours'."""
    others = neighbours(slots, BATCH)
    part = {key: value[slots] for key, value in host.items()}
    for stream, name in (("unlabeled", "partner"), ("labeled", "labeled_partner")):
        part |= {f"{name}_{k}": host[f"{stream}_{k}"][others] for k in ("image", "mask", "valid", "index")}
    return part


def gradients(name: str, micro: int, world: World) -> dict[str, Tensor]:
    train, host = module(name), batch()
    firsts = range(world.rank * micro, BATCH, micro * world.size)
    slots = [np.arange(first, first + micro) for first in firsts]
    hosts = [fed(train, part_of(host, each), "loaded" if micro % 2 else "") for each in slots]
    step = Step(hosts, np.concatenate(slots)) if len(hosts) > 1 else None
    for part, each in zip(hosts, slots, strict=True):
        whole_step(train, part, CLOCK, each, BATCH, step, share=1 / len(hosts))
    average_gradients([p for p in train.parameters() if p.requires_grad], world)
    return {key: p.grad for key, p in train.named_parameters() if p.grad is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    assert largest > 0
    for key, value in one.items():
        assert torch.allclose(value, other[key], rtol=1e-9, atol=1e-12 * max(largest, 1)), key


def divisions(name: str) -> tuple[int, ...]:
    """Sizes of micro-batches. Partners that lie in others are loaded for CutMix; pairs of another kind must be even."""
    method = load_method(name)
    inputs = method.inputs(method.Settings(**settings(name)))
    return (2, 1) if "mix" in inputs or "unlabeled" not in inputs else (2,)


def process(folder: Path) -> None:
    """What each of two processes does."""
    with known(), joined("cpu") as world:
        for name in METHODS:
            for micro in divisions(name):
                found = {key: value.contiguous() for key, value in gradients(name, micro, world).items()}
                save_file(found, folder / f"{name}-{micro}-{world.rank}.safetensors")


@pytest.fixture(autouse=True, scope="module")
def _known(small_network: None) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gradients that two processes have, with two images each, and with two micro-batches of one image each."""
    folder = tmp_path_factory.mktemp("division")
    in_two_processes(process, folder)
    return folder


@cache
def undivided(name: str) -> dict[str, Tensor]:
    return gradients(name, BATCH, World())


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches(name: str) -> None:
    for micro in divisions(name):
        same(undivided(name), gradients(name, micro, World()))


@pytest.mark.parametrize("name", METHODS)
def test_processes(name: str, folder: Path) -> None:
    for micro in divisions(name):
        for rank in range(2):
            same(undivided(name), load_file(folder / f"{name}-{micro}-{rank}.safetensors"))


def test_the_strong_supervised_view_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels are mixed with the images, and divided by what is labeled then."""
    cls = load_method("supervised")
    monkeypatch.setattr(cls, "divisible", {"strong": True})
    whole = gradients("supervised", BATCH, World())
    assert divisions("supervised") == (2, 1)
    for micro in divisions("supervised"):
        same(whole, gradients("supervised", micro, World()))
