"""What every method keeps to, whatever its paper says. A new line in METHODS is tested here without a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from steps import fed, whole_step
from torch import Tensor, nn

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.base import Method, StepOutput
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.settings import doc
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock, SemiBatch

CLASSES = 4
STEPS = 10

Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]


def has(name: str, setting: str) -> bool:
    return setting in {field.name for field in fields(load_method(name).Settings)}


def awake(name: str) -> dict[str, Any]:
    """Settings under which pseudo-labels count although the network knows nothing."""
    return {"tau": 0.0} if has(name, "tau") else {}


def run(train: Train, batch: dict[str, Tensor], step: int) -> StepOutput:
    """All passes of one micro-batch, with their gradients."""
    torch.manual_seed(step)
    return whole_step(train, fed(train, batch), Clock(step, STEPS))


def learn(train: Train, batches: Batches, steps: range) -> list[dict[str, float]]:
    """A few optimiser steps; the losses of each."""
    optimizer = torch.optim.SGD([p for p in train.parameters() if p.requires_grad], lr=0.01)
    rows = []
    for step in steps:
        out = run(train, batches(step), step)
        optimizer.step()
        optimizer.zero_grad()
        train.method.after_step(Clock(step, STEPS))
        train.method.settle(Clock(step, STEPS))
        rows.append({name: value.item() for name, value in out.losses.items()})
    return rows


def first_convolutions(method: Method) -> list[nn.Conv2d]:
    """The first convolution of every encoder that is trained."""
    encoders = [m.encoder for m in method.modules() if isinstance(m, Segmenter)]
    firsts = [next(m for m in encoder.modules() if isinstance(m, nn.Conv2d)) for encoder in encoders]
    return [conv for conv in firsts if conv.weight.requires_grad]


@pytest.fixture(params=list(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_step_gives_finite_losses_that_reach_everything_that_is_trained(
    name: str, train_module: Make, host_batch: Batches
) -> None:
    train = train_module(name, **awake(name))
    out = run(train, host_batch(), STEPS - 1)
    for label, value in {**out.losses, **out.stats}.items():
        assert value.shape == () or (value.shape == (CLASSES,) and label in out.stats), label
        assert value.isfinite().all(), label
    assert all(value.requires_grad for value in out.losses.values())
    assert not any(value.requires_grad for value in out.stats.values())
    missing = [key for key, p in train.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in train.parameters() if p.grad is not None)
    convolutions = first_convolutions(train.method)
    assert convolutions
    assert all(conv.weight.grad is not None and conv.weight.grad.any() for conv in convolutions)


def test_plug_ins_get_what_a_method_says_it_offers(name: str, train_module: Make, host_batch: Batches) -> None:
    out = run(train_module(name, **awake(name)), host_batch(), STEPS - 1)
    assert load_method(name).offers == {*(["terms"] if out.terms else []), *(["weak"] if out.weak else [])}


def test_only_labels_count_during_the_warm_up(name: str, train_module: Make, host_batch: Batches) -> None:
    if not has(name, "warmup"):
        assert load_method(name).inputs(load_method(name).Settings()) == frozenset()
        return
    train = train_module(name, **awake(name), warmup=0.5)
    early = run(train, host_batch(), 4)
    assert {"labeled"} <= early.losses.keys() <= {"labeled", "classifier"}  # what labeled images alone can teach
    assert len(run(train, host_batch(), 5).losses) > 1


def test_confidence_decides(name: str, train_module: Make, host_batch: Batches) -> None:
    """A fresh network is never sure: at tau 1 nothing is taught but the labels."""
    if not has(name, "tau"):
        return
    out = run(train_module(name, tau=1.0), host_batch(), STEPS - 1)
    assert out.losses["labeled"].item() > 0
    assert out.terms
    for term in out.terms:
        assert term.kept_BHW is not None
        assert not term.kept_BHW.any()
        assert out.losses[term.name].item() == 0
    assert out.stats["kept"].item() == 0


def test_unlabeled_images_have_no_masks(name: str, train_module: Make, host_batch: Batches) -> None:
    """A method is given types without one; what the host may hold of them is never looked at."""
    train, host = train_module(name, **awake(name)), host_batch()
    host |= {f"{stream}_mask": host["labeled_mask"] for stream in ("unlabeled", "partner")}
    batch = train.to_batch(fed(train, host), Clock(STEPS - 1, STEPS))
    if isinstance(batch, SemiBatch):
        others = [images for images in (batch.unlabeled, batch.partner) if images is not None]
        assert others
        assert not any(hasattr(images, "mask_BHW") for images in others)


def test_a_fixed_seed_repeats_bit_for_bit(name: str, train_module: Make, host_batch: Batches) -> None:
    one, two = train_module(name, **awake(name)), train_module(name, **awake(name))
    first = learn(one, host_batch, range(3))
    torch.manual_seed(12345)  # the global generator has no say
    assert learn(two, host_batch, range(3)) == first
    state = two.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    other = train_module(name, seed=1, **awake(name))
    assert learn(other, host_batch, range(1)) != first[:1]


def test_the_state_is_all_there_is(name: str, train_module: Make, host_batch: Batches) -> None:
    """Memories, teachers and running statistics included: the next losses are the same after a round trip."""
    one, two = train_module(name, **awake(name)), train_module(name, seed=0, **awake(name))
    learn(one, host_batch, range(2))
    with torch.no_grad():
        for p in two.parameters():
            p.fill_(0.5)
    two.load_state_dict(one.state_dict())
    assert learn(two, host_batch, range(2, 4)) == learn(one, host_batch, range(2, 4))


def test_the_deployed_network(name: str, train_module: Make, host_batch: Batches) -> None:
    train = train_module(name, **awake(name))
    net = train.method.deployed()
    assert isinstance(net, Segmenter)
    with torch.no_grad():
        assert net(torch.randn(2, 3, 65, 65)).shape == (2, CLASSES, 65, 65)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    learn(train, host_batch, range(2))
    after = train.method.deployed().state_dict()
    weights = [key for key in before if key.endswith("weight")]
    assert all(not torch.equal(before[key], after[key]) for key in weights)  # it is the one that learns


def test_groups_cover_what_is_trained_exactly_once(name: str, train_module: Make, configured: Callable) -> None:
    train = train_module(name)
    grouped = [id(p) for group in train.method.groups() for p in group.params]
    assert sorted(grouped) == sorted(id(p) for p in train.method.parameters() if p.requires_grad)
    encoder = {id(p) for group in train.method.groups() if not group.head for p in group.params}
    assert encoder >= {id(conv.weight) for conv in first_convolutions(train.method)}
    optimizer = build_optimizer(train.method.groups(), configured(name).config.train)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(grouped)


def test_every_setting_says_what_it_is(name: str) -> None:
    settings = load_method(name).Settings
    for field in fields(settings):
        assert len(doc(settings, field.name)) > 10, field.name
    assert settings() == settings()


@pytest.mark.parametrize(
    ("setting", "value"), [("tau", 1.5), ("tau", -0.1), ("warmup", 1.0), ("warmup", -0.1), ("alpha", 1.0)]
)
def test_settings_out_of_range(name: str, setting: str, value: float) -> None:
    if has(name, setting):
        with pytest.raises(UsageError, match=rf"method\.{setting}\b") as error:
            load_method(name).Settings(**{setting: value})
        assert error.value.code == 2
        assert error.value.fix


def test_the_docstring_names_the_paper_and_the_departures(name: str) -> None:
    text = __import__(load_method(name).__module__, fromlist=["_"]).__doc__
    assert name == "supervised" or "arXiv" in text


def test_a_method_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="there is no method 'unimach'") as error:
        load_method("unimach")
    assert "did you mean 'unimatch'?" in error.value.fix
