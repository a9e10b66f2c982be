"""What several test files need: one thread, a tiny dataset on disk, configurations, micro-batches, small methods."""

from __future__ import annotations

import errno
import fcntl
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch starts its threads

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
import typer
from torch import Tensor

from semiseg_cli.core.config.layers import Resolved, resolve
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.methods.base import Method
from semiseg_cli.core.networks import MEAN, STD
from semiseg_cli.core.training.step import Builder, Train
from semiseg_cli.core.views.device import ViewSettings
from semiseg_cli.core.views.photometric import Photometric
from semiseg_cli.stages.prepare import prepare_shapes

hypothesis.settings.register_profile("semiseg", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("semiseg")

CLASSES = 4  # of the micro-batches


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Sums in one order: what has to repeat bit for bit does, and two test processes do not fight for the cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _one_program() -> Iterator[None]:
    """Typer makes its commands anew for every line that is typed, which takes longer than many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(autouse=True, scope="session")
def _unsettled() -> Iterator[None]:
    """Nobody pulls the plug on a test: it waits for no disk. That files are brought there is tested by who asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset `shapes`: 48 px, 6 labeled, 8 unlabeled and 3 validation images. Read only."""
    root = tmp_path_factory.mktemp("data")
    prepare_shapes(root, labeled=6, unlabeled=8, val=3, size=48)
    return root


@pytest.fixture
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that have no locks, which they say with ENOLCK, or with the error that the test is given."""
    code = getattr(request, "param", errno.ENOLCK)

    def none(handle: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings end without `report.html`, which takes longer than they do: for tests that do not look at it."""
    monkeypatch.setattr("semiseg_cli.stages.report.report_or_note", lambda *args, **how: None)


@pytest.fixture
def configured(small_network: dict[str, Any], unreported: None) -> Callable[..., Resolved]:
    """A quick resolved configuration for `shapes_root`: `configured("unimatch", {"train.steps": 3})`; no report."""

    def make(method: str = "unimatch", changes: dict[str, Any] | None = None) -> Resolved:
        quick = {
            "method.name": method, "data.name": "shapes", "model.backbone": "small", "model.decoder": "small",
            "model.weights": "none", "train.steps": 5, "train.batch": 2, "train.crop": 33, "train.lr": 0.01,
            "train.head_lr_multiplier": 1.0, "train.eval_every": 4, "train.save_every": 4, "train.log_every": 1,
            "train.workers": 0, "eval.window": "none",
        }  # fmt: skip
        return resolve([("test", quick), ("change", changes or {})])

    return make


@pytest.fixture(scope="session")
def host_batch() -> Callable[..., dict[str, Tensor]]:
    """A micro-batch as the loader gives it, from a seed: classes in blocks, each of its own colour, noise on top.

    Image 0 of every list is padded at the bottom and right, and some labels are ignored.
    """

    @cache
    def made(seed: int, count: int, side: int) -> dict[str, Tensor]:
        rng, batch = np.random.default_rng([20, seed]), dict[str, Tensor]()
        colours = np.array([[60, 60, 60], [200, 80, 60], [70, 180, 90], [70, 90, 210]])
        for name in ("labeled", "unlabeled", "partner", "paired"):
            blocks = rng.integers(0, CLASSES, (count, side // 8 + 1, side // 8 + 1))
            mask = blocks.repeat(8, 1).repeat(8, 2)[:, :side, :side]
            image = (colours[mask] + rng.normal(0, 25, (count, side, side, 3))).clip(0, 255)
            valid = np.ones((count, side, side), bool)
            valid[0, side - 3 :] = valid[0, :, side - 5 :] = False
            image[~valid] = 0
            batch[f"{name}_image"] = torch.from_numpy(image.astype(np.uint8))
            batch[f"{name}_valid"] = torch.from_numpy(valid.astype(np.uint8))
            batch[f"{name}_index"] = torch.arange(count)
            if name in ("labeled", "paired"):
                ignored = ~valid | (rng.random(mask.shape) < 0.1)
                batch[f"{name}_mask"] = torch.from_numpy(np.where(ignored, 255, mask).astype(np.uint8))
        return batch

    def make(seed: int = 0, count: int = 2, side: int = 33) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in made(seed, count, side).items()}

    return make


@pytest.fixture(scope="module")
def train_module(small_network: dict[str, Any]) -> Callable[..., Train]:
    """`Train` around a method on the small network: `train_module("unimatch", tau=0.0)`. prepare: as in `Builder`."""

    def make(
        method: str | type[Method],
        seed: int = 0,
        prepare: Any = None,
        spec: dict[str, Any] = small_network,
        **settings: Any,
    ) -> Train:
        cls = load_method(method) if isinstance(method, str) else method
        built = cls(cls.Settings(**settings), Builder(spec, CLASSES, seed=seed, prepare=prepare))
        return Train(built, seed=seed, mean=MEAN, std=STD, views=ViewSettings(Photometric())).train()

    return make
