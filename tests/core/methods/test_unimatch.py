"""UniMatch, FixMatch and mean teacher, derived once more in plain torch from the paper's equations (methods.md, 1).

Only the random draws are shared with the code under test: passes, mixing, losses, weights and batch norm are not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from cases import CLOCK, SIDE, SLOTS, Case, pseudo, supervised, unsupervised
from steps import whole_step
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock


def agree(case: Case, out: StepOutput, expected: dict[str, Tensor]) -> None:
    """Losses one by one, gradients of their sum, and the running statistics afterwards."""
    assert out.losses.keys() == expected.keys()
    if getattr(case.train.method.settings, "pixel_weight", "threshold") == "threshold":
        assert 0.05 < out.stats["kept"].item() < 0.95  # the threshold decides
    for name, value in expected.items():
        assert out.losses[name].item() == pytest.approx(value.item(), rel=1e-5), name
        assert value.item() > 0, name
    mine = torch.autograd.grad(sum(out.losses.values()), list(case.train.method.net.parameters()))
    theirs = torch.autograd.grad(sum(expected.values()), list(case.net.parameters()))
    scale = max(g.abs().max().item() for g in theirs)
    for (name, _), a, b in zip(case.net.named_parameters(), mine, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * scale), name
    for (name, a), (_, b) in zip(case.train.method.net.named_buffers(), case.net.named_buffers(), strict=True):
        if not name.endswith("num_batches_tracked"):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), name


@pytest.fixture
def case(train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]]) -> Callable[..., Case]:
    def make(method: str, tau: float = 0.32, **settings: object) -> Case:
        host = host_batch(3, count=3)
        if settings.get("cutmix_partner") != "self":
            host = {key: value for key, value in host.items() if not key.startswith("partner")}
        if settings.get("pixel_weight") != "confidence":
            settings["tau"] = tau
        return Case(train_module(method, **settings), host)

    return make


def test_the_authors_step(case: Callable[..., Case]) -> None:
    c = case("unimatch", exact_bn=True, cutmix_partner="self")
    assert c.second is not None
    c.net.eval()
    with torch.no_grad():
        partner = pseudo(c.net(c.normalised(c.second)), c.second.valid_BHW)
    c.net.train()

    maps = c.net.encode(torch.cat([c.x_l, c.x_w]))
    both = []
    drops = zip(c.views.channels("fp/labeled", maps), c.views.channels("fp", maps), strict=True)
    for features, (of_labeled, of_weak) in zip(maps, drops, strict=True):
        both.append(torch.cat([features, features[:3] * of_labeled, features[3:] * of_weak]))
    logits = c.net.decode(both, (SIDE, SIDE)).logits_BKHW
    logits_l, logits_w, _, logits_fp = logits.split(3)
    weak = pseudo(logits_w, c.unlabeled.valid_BHW)
    s1, s2 = c.mixed("s1", weak, partner), c.mixed("s2", weak, partner)
    logits_s1, logits_s2 = c.net(torch.cat([s1[0], s2[0]])).split(3)
    expected = {
        "labeled": supervised(c, logits_l) / 2,
        "strong1": 0.25 * unsupervised(c, logits_s1, *s1[1:]) / 2,
        "strong2": 0.25 * unsupervised(c, logits_s2, *s2[1:]) / 2,
        "feature": 0.5 * unsupervised(c, logits_fp, *weak) / 2,
    }
    agree(c, c.step(), expected)
    assert c.train.method.net.training


def test_the_lean_step(case: Callable[..., Case]) -> None:
    """One encoder pass; the weak logits' decode leaves no trace in the running statistics."""
    c = case("unimatch")
    maps = c.net.encode(torch.cat([c.x_l, c.x_w]))
    observer = copy.deepcopy(c.net)  # takes the trace
    with torch.no_grad():
        logits_w = observer.decode([m[3:] for m in maps], (SIDE, SIDE)).logits_BKHW
    weak = pseudo(logits_w, c.unlabeled.valid_BHW)
    drops = c.views.channels("fp", [m[3:] for m in maps])
    both = [torch.cat([m[:3], m[3:] * factor]) for m, factor in zip(maps, drops, strict=True)]
    logits_l, logits_fp = c.net.decode(both, (SIDE, SIDE)).logits_BKHW.split(3)
    s1, s2 = c.mixed("s1", weak), c.mixed("s2", weak)
    logits_s1, logits_s2 = c.net(torch.cat([s1[0], s2[0]])).split(3)
    expected = {
        "labeled": supervised(c, logits_l) / 2,
        "strong1": 0.25 * unsupervised(c, logits_s1, *s1[1:]) / 2,
        "strong2": 0.25 * unsupervised(c, logits_s2, *s2[1:]) / 2,
        "feature": 0.5 * unsupervised(c, logits_fp, *weak) / 2,
    }
    agree(c, c.step(), expected)


@pytest.mark.parametrize("exact", [False, True])
def test_the_encoder_sees_labeled_and_weak_images_once(case: Callable[..., Case], exact: bool) -> None:
    c = case("unimatch", exact_bn=exact)
    seen = list[Tensor]()
    c.train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    c.step()
    assert len(seen) == 2
    assert torch.allclose(seen[0], torch.cat([c.x_l, c.x_w]))
    assert len(seen[1]) == 6


def test_momentum_is_as_before(case: Callable[..., Case]) -> None:
    c = case("unimatch")
    c.step()
    assert {m.momentum for m in c.train.method.net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("partner", ["batch", "self"])
@pytest.mark.parametrize("exact", [False, True])
def test_fixmatch(case: Callable[..., Case], partner: str, exact: bool) -> None:
    """The weak views: trained with the labeled images, or seen in training mode without a trace and a gradient."""
    c = case("fixmatch", cutmix_partner=partner, exact_bn=exact)
    second, observer = None, copy.deepcopy(c.net)
    if c.second is not None:
        c.net.eval()
        second = pseudo(c.net(c.normalised(c.second)), c.second.valid_BHW)
        c.net.train()
    if exact:
        logits_l, logits_w = c.net(torch.cat([c.x_l, c.x_w])).split(3)
    else:
        logits_w = observer(c.x_w)
    x_s, *labels = c.mixed("s1", pseudo(logits_w, c.unlabeled.valid_BHW), second)
    if exact:
        logits_s = c.net(x_s)
    else:
        logits_l, logits_s = c.net(torch.cat([c.x_l, x_s])).split(3)
    expected = {"labeled": supervised(c, logits_l) / 2, "strong": unsupervised(c, logits_s, *labels) / 2}
    agree(c, c.step(), expected)
    assert c.train.method.net.training


@pytest.mark.parametrize("weight", ["threshold", "confidence"])
@pytest.mark.parametrize("normaliser", ["valid", "image"])
def test_mean_teacher(case: Callable[..., Case], weight: str, normaliser: str) -> None:
    c = case("meanteacher", pixel_weight=weight, normaliser=normaliser, lambda_u=0.7)
    teacher = copy.deepcopy(c.train.method.teacher.net).eval()
    with torch.no_grad():
        weak = pseudo(teacher(c.x_w), c.unlabeled.valid_BHW)
    x_s, label, conf, valid = c.mixed("s1", weak)
    logits_l, logits_s = c.net(torch.cat([c.x_l, x_s])).split(3)
    weights = (conf if weight == "confidence" else (conf >= c.tau).float()) * valid
    loss = F.cross_entropy(logits_s, label, reduction="none") * weights
    if normaliser == "valid":
        loss_u = loss.sum() / valid.sum()
    else:
        loss_u = torch.stack([loss[b].sum() / weights[b].sum() for b in range(3)]).mean()
    agree(c, c.step(), {"labeled": supervised(c, logits_l), "strong": 0.7 * loss_u})
    assert c.train.method.deployed() is c.train.method.teacher.net


def test_the_teacher_follows_after_the_step(case: Callable[..., Case]) -> None:
    c = case("meanteacher", alpha=0.9)
    before = [p.clone() for p in c.train.method.teacher.parameters()]
    with torch.no_grad():
        for p in c.train.method.net.parameters():
            p.add_(1.0)
    c.train.method.after_step(Clock(2, 10))  # d = min(3 / 12, 0.9)
    students = c.train.method.net.parameters()
    for old, student, new in zip(before, students, c.train.method.teacher.parameters(), strict=True):
        assert torch.allclose(new, 0.25 * old + 0.75 * student, atol=1e-6)


def test_a_batch_without_a_valid_pixel_is_no_harm(case: Callable[..., Case]) -> None:
    c = case("unimatch")
    c.unlabeled.valid_BHW[:] = False
    out = c.step()
    assert all(value.isfinite().all() for value in (*out.losses.values(), *out.stats.values()))
    assert [value.item() for name, value in out.losses.items() if name != "labeled"] == [0.0, 0.0, 0.0]


def test_supervised_takes_the_strong_view_when_asked(train_module: Callable[..., Train], host_batch: Callable) -> None:
    host = {key: value for key, value in host_batch(3, count=3).items() if key.startswith("labeled")}
    seen = list[Tensor]()
    for strong in (False, True):
        train = train_module("supervised", strong=strong)
        train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        whole_step(train, host, CLOCK)
    batch = train.to_batch(host, CLOCK)
    views = train.views(CLOCK, SLOTS, len(SLOTS), batch)
    assert torch.equal(seen[0], views.weak(batch.labeled))
    whole = views.strong(batch.labeled, "labeled")
    mask = views.cutmix(batch.labeled, "labeled").mask_BHW[:, None]
    assert torch.equal(seen[1], torch.where(mask, whole[[1, 2, 0]], whole))
