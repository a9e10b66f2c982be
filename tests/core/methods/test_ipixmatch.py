"""IPixMatch: UniMatch with the plug-in to the last bit, its EMA teacher, and the deterministic mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import fed, whole_step
from torch import Tensor

from semiseg_cli.core.config.layers import Resolved, resolve
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.training.checkpoint import load_network, read
from semiseg_cli.core.training.setup import set_deterministic
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock
from semiseg_cli.stages.train import train

Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]
Configured = Callable[..., Resolved]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    set_deterministic(False)


def step(train: Train, batch: dict[str, Tensor], at: int = 9) -> StepOutput:
    return whole_step(train, fed(train, batch), Clock(at, 10), backward=False)


def weights(run: dict[str, Any]) -> dict[str, Tensor]:
    return read(Path(run["run"]) / "last.safetensors")[0]


@pytest.mark.parametrize("exact_bn", [False, True])
def test_unimatch_with_the_plug_in_is_the_same_to_the_bit(
    exact_bn: bool, shapes_root: Path, tmp_path: Path, configured: Configured
) -> None:
    shared = {"method.tau": 0.1, "method.exact_bn": exact_bn, "train.eval_every": 0}
    loss = {"weight": 2.0, "region_tau": 0.2, "ramp": 0.5, "distance": "pearson"}
    own = configured("ipixmatch", shared | {f"method.{name}": value for name, value in loss.items()})
    added = configured(
        "unimatch",
        shared | {"method.add": "interpixel"} | {f"interpixel.{name}": value for name, value in loss.items()},
    )
    plain = configured("unimatch", shared)
    one, two, three = (
        train(each, data_root=shapes_root, runs_root=tmp_path, device="cpu") for each in (own, added, plain)
    )
    assert weights(one).keys() == weights(two).keys()
    assert all(torch.equal(value, weights(two)[key]) for key, value in weights(one).items())
    assert not all(torch.equal(value, weights(three)[key]) for key, value in weights(one).items())


def test_the_ema_teacher_labels_and_is_deployed(train_module: Make, host_batch: Batches) -> None:
    train = train_module("ipixmatch", tau=0.0, region_tau=0.0, ema_teacher=True, alpha=0.9)
    method = train.method
    assert method.deployed() is method.teacher.net
    with torch.no_grad():
        for p in method.net.parameters():
            p.mul_(1.1)
    weak = step(train, host_batch()).weak
    assert weak is not None
    assert torch.equal(weak.pseudo.logits_BKHW, method.teacher(weak.image_B3HW))
    kernel = method.teacher.net.decoder.classifier.weight.clone()
    method.after_step(Clock(999, 1000))
    expected = 0.9 * kernel + 0.1 * method.net.decoder.classifier.weight
    assert torch.allclose(method.teacher.net.decoder.classifier.weight, expected, atol=1e-6)


def test_the_ema_teacher_labels_the_partner_too(train_module: Make, host_batch: Batches) -> None:
    settings = {"tau": 0.0, "region_tau": 0.0, "cutmix_partner": "self", "exact_bn": True}
    own, ema = (train_module("ipixmatch", ema_teacher=flag, **settings) for flag in (False, True))
    for each in (own, ema):
        with torch.no_grad():
            each.method.net.decoder.classifier.bias.copy_(torch.tensor([9.0, 0, 0, 0]))
    assert step(own, host_batch()).terms[0].pseudo.label_BHW.eq(0).all()
    assert not step(ema, host_batch()).terms[0].pseudo.label_BHW.eq(0).all()


def test_without_it_the_student_is_its_own_teacher(train_module: Make, host_batch: Batches) -> None:
    train = train_module("ipixmatch", tau=0.0, region_tau=0.0, ramp=0.0)
    out = step(train, host_batch())
    assert train.method.deployed() is train.method.net
    assert set(out.losses) == {"labeled", "strong1", "strong2", "feature", "interpixel"}
    assert not any("teacher" in key for key in train.state_dict())


def test_two_deterministic_runs_give_identical_weights(
    shapes_root: Path, tmp_path: Path, configured: Configured
) -> None:
    paper = {
        "train.deterministic": True, "train.seed": 12345, "model.upsampling": "nearest", "method.region_tau": 0.2,
        "train.steps": 2, "train.eval_every": 0,
    }  # fmt: skip
    torch.set_num_threads(2)
    try:
        one, two = (
            train(configured("ipixmatch", paper), data_root=shapes_root, runs_root=tmp_path, device="cpu")
            for _ in range(2)
        )
    finally:
        torch.set_num_threads(1)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert one["run"] != two["run"]
    assert all(torch.equal(value, weights(two)[key]) for key, value in weights(one).items())
    net, meta = load_network(Path(one["run"]) / "last.safetensors")
    assert meta["model"]["upsampling"] == "nearest"
    assert net.decoder.upsample.mode == "nearest"
    train(configured("supervised", {"train.steps": 1}), data_root=shapes_root, runs_root=tmp_path, device="cpu")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("region_tau", 1.5), ("temperature", 0.0), ("weight", -1.0), ("ramp", 2.0), ("alpha", 1.0), ("tau", 2.0)],
)
def test_settings_out_of_range_are_named_after_the_method(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"method\.{setting} = {value}"):
        load_method("ipixmatch").Settings(**{setting: value})


def test_the_plug_in_cannot_be_added_twice_over() -> None:
    with pytest.raises(UsageError, match="ipixmatch has the loss of the plug-in 'interpixel' already"):
        resolve([("here", {"method.name": "ipixmatch", "method.add": "interpixel"})])
    assert resolve([("here", {"method.name": "ipixmatch", "method.add": "masked"})]).config.title == "ipixmatch+masked"
