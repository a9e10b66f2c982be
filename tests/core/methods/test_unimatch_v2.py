"""UniMatch V2 and its baselines, once more in plain torch from the description. Only random draws are shared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CLOCK, SIDE, Case, pseudo, supervised, unsupervised
from fake_small import SMALL, TINY
from torch import Tensor

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock

Make = Callable[..., Case]

pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture
def case(train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]]) -> Make:
    """In float64, with a teacher that differs from its student."""

    def make(method: str, spec: dict[str, Any] = SMALL, **settings: object) -> Case:
        host = {key: value for key, value in host_batch(3, count=3).items() if not key.startswith("partner")}
        return Case(train_module(method, spec=spec, tau=0.32, **settings).double(), host)

    return make


def labels(c: Case) -> list[Tensor]:
    """Of the teacher in eval mode; of the student in training mode, without trace, if there is none."""
    net = copy.deepcopy(c.net if c.train.method.teacher is None else c.train.method.teacher.net)
    with torch.no_grad():
        return pseudo(net(c.x_w), c.unlabeled.valid_BHW)


def agree(c: Case, expected: dict[str, Tensor]) -> None:
    """Losses, gradients of their sum, and what decided them."""
    out = c.step()
    assert 0.05 < out.stats["kept"].item() < 0.95
    assert {name: value.item() for name, value in out.losses.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-9
    )
    assert all(value.item() > 0 for value in expected.values())
    mine = torch.autograd.grad(sum(out.losses.values()), list(c.train.method.net.parameters()))
    theirs = torch.autograd.grad(sum(expected.values()), list(c.net.parameters()))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("lambda_u", [1.0, 4.0])
@pytest.mark.parametrize("dropout", ["complementary", "independent", "none"])
def test_the_step(case: Make, dropout: str, lambda_u: float) -> None:
    c = case("unimatchv2", dropout=dropout, lambda_u=lambda_u)
    weak = labels(c)
    s1, s2 = c.mixed("s1", weak), c.mixed("s2", weak)
    logits_l = c.net(c.x_l)
    maps = c.net.encode(torch.cat([s1[0], s2[0]]))
    if dropout == "complementary":
        first, second = c.views.complementary("s", maps)
    else:
        first, second = c.views.channels("s1", maps), c.views.channels("s2", maps)
    if dropout != "none":
        maps = [torch.cat([m[:3] * a, m[3:] * b]) for m, a, b in zip(maps, first, second, strict=True)]
    logits_1, logits_2 = c.net.decode(maps, (SIDE, SIDE)).logits_BKHW.split(3)
    unlabeled = [unsupervised(c, logits, *view[1:]) / 2 for logits, view in ((logits_1, s1), (logits_2, s2))]
    whole = 1 + lambda_u
    agree(c, {
        "labeled": supervised(c, logits_l) / whole,
        "strong1": lambda_u * unlabeled[0] / whole,
        "strong2": lambda_u * unlabeled[1] / whole,
    })  # fmt: skip


def test_without_a_teacher_the_student_labels(case: Make) -> None:
    c = case("unimatchv2", ema_teacher=False, dropout="none")
    weak = labels(c)
    s1, s2 = c.mixed("s1", weak), c.mixed("s2", weak)
    logits_l = c.net(c.x_l)
    logits_1, logits_2 = c.net(torch.cat([s1[0], s2[0]])).split(3)
    strong = {
        name: unsupervised(c, logits, *view[1:]) / 4
        for name, logits, view in (("strong1", logits_1, s1), ("strong2", logits_2, s2))
    }
    agree(c, {"labeled": supervised(c, logits_l) / 2, **strong})
    assert c.train.method.deployed() is c.train.method.net


def test_its_fixmatch(case: Make) -> None:
    """One strong view, which passes with the labeled images; no dropout."""
    c = case("fixmatch", ema_teacher=True)
    s1 = c.mixed("s1", labels(c))
    logits_l, logits_s = c.net(torch.cat([c.x_l, s1[0]])).split(3)
    agree(c, {"labeled": supervised(c, logits_l) / 2, "strong": unsupervised(c, logits_s, *s1[1:]) / 2})


def test_its_unimatch(case: Make) -> None:
    c = case("unimatch", ema_teacher=True)
    weak = labels(c)
    s1, s2 = c.mixed("s1", weak), c.mixed("s2", weak)
    maps = c.net.encode(torch.cat([c.x_l, c.x_w]))
    drops = c.views.channels("fp", [m[3:] for m in maps])
    decoded = [torch.cat([m[:3], m[3:] * drop]) for m, drop in zip(maps, drops, strict=True)]
    logits_l, logits_fp = c.net.decode(decoded, (SIDE, SIDE)).logits_BKHW.split(3)
    logits_1, logits_2 = c.net(torch.cat([s1[0], s2[0]])).split(3)
    agree(c, {
        "labeled": supervised(c, logits_l) / 2,
        "strong1": unsupervised(c, logits_1, *s1[1:]) / 8,
        "strong2": unsupervised(c, logits_2, *s2[1:]) / 8,
        "feature": unsupervised(c, logits_fp, *weak) / 4,
    })  # fmt: skip


@pytest.mark.parametrize("method", ["unimatchv2", "fixmatch", "unimatch"])
def test_the_teacher_begins_as_the_first_student_and_is_evaluated(case: Make, method: str) -> None:
    c = case(method, ema_teacher=True)
    student, teacher = c.train.method.net, c.train.method.teacher.net
    assert c.train.method.deployed() is teacher
    c.train.method.after_step(Clock(0, 10))
    first = {key: value.clone() for key, value in teacher.state_dict().items()}
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in first.items())
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    student(c.x_w)  # running statistics move
    c.train.method.after_step(CLOCK)  # step 5: 1 - 1 / 6 of what was
    for key, value in teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, first[key] * 5 / 6 + student.state_dict()[key] / 6)


def test_the_teacher_sees_weak_views_alone_and_only_strong_ones_are_dropped(case: Make) -> None:
    c = case("unimatchv2", spec=TINY)
    seen = {"teacher": list[Tensor](), "student": list[Tensor]()}
    decoded = list[list[Tensor]]()
    for name, net in (("teacher", c.train.method.teacher.net), ("student", c.train.method.net)):
        net.encoder.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0]))
    c.train.method.net.decoder.register_forward_pre_hook(lambda _, inputs: decoded.append(list(inputs[0])))
    c.step()
    (weak,), (labeled, strong) = seen["teacher"], seen["student"]
    assert torch.equal(weak, c.x_w)
    assert torch.equal(labeled, c.x_l)
    assert len(strong) == 6
    dropped = [(maps[-1] == 0).all((2, 3)).float().mean(1) for maps in decoded]
    assert (dropped[0] < 0.3).all()
    assert ((dropped[1] > 0.35).sum() == 4).item()  # of three images one keeps all, in both views


def test_what_nothing_reads_is_refused() -> None:
    for method in ("unimatchv2", "fixmatch", "unimatch"):
        with pytest.raises(UsageError, match=r"method\.alpha"):
            load_method(method).Settings(ema_teacher=False, alpha=0.5)
    with pytest.raises(UsageError, match=r"method\.exact_bn"):
        load_method("fixmatch").Settings(ema_teacher=True, exact_bn=True)
