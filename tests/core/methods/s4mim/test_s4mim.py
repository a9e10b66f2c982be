"""S4MIM's step beside its reference, and what else it promises."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import CLOCK, SIDE, SLOTS, Case
from s4mim_reference import double, reference
from steps import fed
from torch import Tensor, nn

from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.methods.plugins import load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.methods.s4mim.method import S4MIM
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock

PLAN = Plan(seed=0, start=0, steps=4, batch=2, micro=2, crop=SIDE, scale=(1.0, 1.0))
OFF = {"lambda_mp": 0.0, "lambda_mf": 0.0, "lambda_ms": 0.0}
PHASE_TWO = {"pixel", "aggregation", "semantic"}


@pytest.fixture
def case(train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]]) -> Callable[..., Case]:
    def make(**settings: object) -> Case:
        host = host_batch(3, count=3)
        if settings.get("cutmix_partner") != "self":
            host = {key: value for key, value in host.items() if not key.startswith("partner")}
        return Case(train_module("s4mim", **({"tau": 0.32, "backward": "joint"} | settings)), host)

    return make


def losses(c: Case) -> StepOutput:
    """All passes of a step; the gradients of all losses are left in the parameters."""
    whole = StepOutput({})
    for out in c.train.method.step(c.batch, c.train.views(CLOCK, SLOTS, len(SLOTS), c.batch)):
        torch.stack(list(out.losses.values())).sum().backward()
        whole = whole.plus(out)
    return whole


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "settings",
    [{}, {"backward": "phased"}, {"mim": "basic", "fp_target": "image"}, {"dictionary": False, "confidence": False},
     {"semantic": "mse", "masked_statistics": True}, {"cutmix_partner": "self"},
     {"cutmix_partner": "self", "exact_bn": True}],
    ids=["paper", "phased", "basic", "batch prototypes", "mse and statistics", "second draws", "authors"],
)  # fmt: skip
def test_the_step(case: Callable[..., Case], settings: dict[str, object]) -> None:
    c = double(case(**settings))
    net, pid = c.net, copy.deepcopy(c.train.method.pid)
    out, expected = losses(c), reference(c, net, pid, **settings)
    assert out.losses.keys() == expected.keys()
    assert 0.05 < out.stats["kept"].item() < 0.95
    for name, value in expected.items():
        assert out.losses[name].item() == pytest.approx(value.item(), rel=1e-9), name
        assert value.item() > 0, name
    torch.stack(list(expected.values())).sum().backward()
    for mine, theirs in ((c.train.method.net, net), (c.train.method.pid, pid)):
        want = gradients(theirs)
        scale = max(g.abs().max().item() for g in want.values())
        got = gradients(mine)
        assert got.keys() == want.keys()
        for name, gradient in want.items():
            assert torch.allclose(got[name], gradient, rtol=1e-7, atol=1e-10 * scale), name
        for (name, a), (_, b) in zip(mine.named_buffers(), theirs.named_buffers(), strict=True):
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(a, b, rtol=1e-9, atol=1e-12), name


def test_phases_give_the_gradients_of_one_backward_pass(case: Callable[..., Case]) -> None:
    """In float64, with everything that phase I tells phase II."""
    found = []
    for backward in ("joint", "phased"):
        c = double(case(backward=backward, semantic="mse"))
        found.append((losses(c), gradients(c.train.method)))
    (joint, one), (phased, two) = found
    assert {k: v.item() for k, v in joint.losses.items()} == {k: v.item() for k, v in phased.losses.items()}
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize(("mim", "exact"), [("classwise", False), ("basic", False), ("classwise", True)])
def test_without_a_mask_the_perturbed_stream_is_its_own_target(
    case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch, mim: str, exact: bool
) -> None:
    """Eq. 8, third term: target and prediction differ by the mask alone, not by who is in the batch."""
    c = double(case(mim=mim, exact_bn=exact))
    method, views = c.train.method, c.train.views(CLOCK, SLOTS, len(SLOTS), c.batch)
    _, streams = method.baseline(c.batch, views)
    others = torch.arange(len(streams.valid_MHW)) < 6
    alone = replace(streams, valid_MHW=streams.valid_MHW & ~others[:, None, None])
    masked = method.masked(views, alone).losses["pixel"].item()
    monkeypatch.setattr(views, "patches", lambda *_: torch.zeros(3, SIDE, SIDE, dtype=torch.bool))
    assert method.masked(views, alone).losses["pixel"].item() < 1e-20
    assert masked > 1e-4


@pytest.mark.parametrize("term", sorted(PHASE_TWO))
def test_each_term_alone_reaches_the_encoder_and_its_decoder(case: Callable[..., Case], term: str) -> None:
    c = case()
    method = c.train.method
    (out,) = method.step(c.batch, c.views)
    first = next(m for m in method.net.encoder.modules() if isinstance(m, nn.Conv2d)).weight
    parts = [first, method.net.decoder.classifier.weight, method.pid.heads.weight, *method.pid.body.parameters()]
    found = torch.autograd.grad(out.losses[term], parts, allow_unused=True)
    reached = [gradient is not None and bool(gradient.any()) for gradient in found[:4]]
    assert reached == {
        "pixel": [True, False, True, True],
        "aggregation": [True, False, False, True],
        "semantic": [True, True, False, False],
    }[term]


@pytest.mark.parametrize("off", sorted(OFF))
def test_a_term_that_is_off_is_gone(case: Callable[..., Case], off: str) -> None:
    names = dict(zip(sorted(OFF), ("aggregation", "pixel", "semantic"), strict=True))
    for backward in ("joint", "phased"):
        c = case(backward=backward, **{off: 0.0})
        assert losses(c).losses.keys() == {"labeled", "strong", "feature"} | PHASE_TWO - {names[off]}


def test_without_masks_it_is_its_baseline(case: Callable[..., Case]) -> None:
    """Table IV, first row: no pixel decoder, one pass."""
    c = case(backward="phased", **OFF)
    seen = list[Tensor]()
    c.train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert losses(c).losses.keys() == {"labeled", "strong", "feature"}
    assert [len(x) for x in seen] == [6, 3]
    assert c.train.method.pid is None
    assert len(c.train.method.groups()) == 2


def test_the_three_streams_are_masked_alike_by_exactly_the_asked_number_of_patches(case: Callable[..., Case]) -> None:
    c = case(patch=4, ratio=0.3)
    seen = list[Tensor]()
    c.train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    out = losses(c)
    image, mask, r = (
        torch.cat([out.pictures[f"{stream}/{name}"] for stream in ("labeled", "strong", "feature")])
        for name in ("image", "mask", "reconstruction")
    )
    assert len(seen) == 4  # labeled with weak and strong, unmasked and masked
    hidden = image * ~mask[:, None]
    assert torch.equal(seen[2], torch.cat([hidden[:3], hidden[6:]]))
    assert torch.equal(seen[3], hidden[3:6])
    assert torch.equal(mask[:3], mask[3:6])
    assert torch.equal(mask[:3], mask[6:])
    assert not torch.equal(mask[0], mask[1])
    assert mask[:, ::4, ::4].sum((1, 2)).tolist() == [round(0.3 * 81)] * 9  # 9 x 9 patches, the last of a row cut
    assert torch.equal(image[:3], c.x_l)
    assert torch.equal(image[6:], c.x_w)
    assert r.shape == image.shape
    assert not any(picture.requires_grad for picture in out.pictures.values())


def test_the_dictionary_is_a_moving_average_of_what_was_seen(case: Callable[..., Case]) -> None:
    c = case(alpha=0.9)
    method, label = c.train.method, c.labeled.mask_BHW
    losses(c)
    first = method.prototypes_KD.clone()
    assert first.any()
    losses(c)  # weights have not moved: the same means again, but for the classes the same prediction has
    seen = first.any(1)
    assert torch.allclose(method.prototypes_KD[seen], 1.9 * first[seen], rtol=1e-4)
    label[:] = 255  # nothing is known of the labeled images: no vector may enter
    before = method.prototypes_KD.clone()
    losses(c)
    assert torch.equal(method.prototypes_KD, before)
    assert not method.prototypes_KD.requires_grad


def test_ignore_everywhere_and_padding_everywhere_are_no_harm(case: Callable[..., Case]) -> None:
    c = case()
    c.labeled.mask_BHW[:] = 255
    out = losses(c)
    assert all(value.isfinite().all() for value in (*out.losses.values(), *out.stats.values()))
    assert out.losses["labeled"].item() == 0
    assert out.losses["aggregation"].item() == 0  # no prototype was ever made
    c = case()
    c.labeled.valid_BHW[:] = c.unlabeled.valid_BHW[:] = False
    out = losses(c)
    assert [out.losses[name].item() for name in sorted(PHASE_TWO)] == [0, 0, 0]
    assert all(g.isfinite().all() for g in gradients(c.train.method).values())


def test_the_pixel_decoder_learns_at_a_constant_rate(case: Callable[..., Case], configured: Callable) -> None:
    changes = {"train.head_lr_multiplier": 10.0, "train.lr": 0.01, "train.steps": 100}
    train, method = configured("s4mim", changes).config.train, case().train.method
    optimizer = build_optimizer(method.groups(), train)
    set_learning_rates(optimizer, 99, train)
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    late = 0.01**0.9
    parts = ((method.pid, 0.1), (method.net.decoder, 0.1 * late), (method.net.encoder, 0.01 * late))
    for module, expected in parts:
        assert [rates[id(p)] for p in module.parameters()] == pytest.approx([expected] * len([*module.parameters()]))


def test_the_pixel_decoders_clock_starts_when_it_does(
    train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]], configured: Callable
) -> None:
    """AdamW corrects its means by the count of steps, which a warm-up without gradients must not spend."""
    changes = {"train.optimizer": "adamw", "train.weight_decay": 0.0, "train.lr": 0.001}
    config = configured("s4mim", changes).config.train
    train, plan = train_module("s4mim", tau=0.0, warmup=0.5), PLAN
    optimizer, pid = build_optimizer(train.method.groups(), config), train.method.pid
    assert pid is not None
    for group in optimizer.param_groups:
        group["lr"].fill_(0.001)
    batches = (fed(train, host_batch(step)) for step in range(4))
    heads, counts = [pid.heads.weight.detach().clone()], []
    for step in range(4):
        Update(train, optimizer, plan, 0.0, Meter(), World())(batches, Clock(step, 4))
        counts.append({int(optimizer.state.get(p, {"step": 0})["step"]) for p in pid.parameters()})
        heads.append(pid.heads.weight.detach().clone())
    assert counts == [{0}, {0}, {1}, {2}]
    assert torch.equal(heads[0], heads[2])
    moved = (heads[3] - heads[2]).abs()
    assert moved.max().item() == pytest.approx(0.001, rel=0.01)  # a first step of AdamW: the rate, whatever g


@pytest.mark.parametrize("added", [(), ("masked",)], ids=["alone", "with a plug-in"])
def test_the_graph_of_the_first_phase_is_gone_before_the_second(
    added: tuple[str, ...],
    train_module: Callable[..., Train],
    host_batch: Callable[..., dict[str, Tensor]],
    configured: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, plan = train_module("s4mim", tau=0.0), PLAN
    plugins = {name: load_plugin(name)(load_plugin(name).Settings(), train.method.build) for name in added}
    train.method = Extended(train.method, plugins) if plugins else train.method
    kept: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def baseline(method: S4MIM, *given: Any, whole: Any = S4MIM.baseline) -> Any:
        first, streams = whole(method, *given)
        kept.extend(weakref.ref(x) for x in (*first.losses.values(), *(term.logits_BKHW for term in first.terms)))
        return first, streams

    def masked(method: S4MIM, *given: Any, whole: Any = S4MIM.masked) -> Any:
        alive.extend(each() is not None for each in kept)
        return whole(method, *given)

    monkeypatch.setattr(S4MIM, "baseline", baseline)
    monkeypatch.setattr(S4MIM, "masked", masked)
    optimizer = build_optimizer(train.method.groups(), configured("s4mim").config.train)
    Update(train, optimizer, plan, 0.0, Meter(), World())(iter([fed(train, host_batch())]), Clock(3, 4))
    assert len(alive) == 5
    assert not any(alive)


def test_the_pixel_decoder_is_saved_for_resuming_and_not_deployed(case: Callable[..., Case]) -> None:
    c = case()
    assert any(key.startswith("method.pid.heads") for key in c.train.state_dict())
    assert "method.prototypes_KD" in c.train.state_dict()
    assert not any("pid" in key or "heads" in key for key in c.train.method.deployed().state_dict())
