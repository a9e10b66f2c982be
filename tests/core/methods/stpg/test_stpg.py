"""STPG's step, derived once more in plain torch from the paper's equations.

Only the random draws are shared with the code under test. Section 3.3 as a whole is in test_dual_contrast.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from steps import fed, whole_step
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.methods.stpg.settings import STPGSettings
from semiseg_cli.core.networks import Net
from semiseg_cli.core.training.measure import flop_counter
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock, SemiBatch

CLOCK, SLOTS, SIDE, K = Clock(5, 10), np.arange(3), 33, 4
Make, Batches = Callable[..., Train], Callable[..., dict[str, Tensor]]


class Case:
    """A method before its step, copies of its networks, and the images that they see."""

    def __init__(self, train: Train, host: dict[str, Tensor]) -> None:
        train.view_settings = replace(train.view_settings, cutmix=1.0)
        batch = train.to_batch(fed(train, host), CLOCK)
        assert isinstance(batch, SemiBatch)
        self.train, self.batch, self.views = train, batch, train.views(CLOCK, SLOTS, 3, batch)
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():  # away from the first weights, and teachers from their students
            for p in train.method.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=noise))
        self.nets: dict[str, Net] = {
            name: copy.deepcopy(net)
            for name, net in train.method.named_children() if name in ("gen", "pro", "gen_teacher", "pro_teacher")
        }  # fmt: skip
        self.x_l, self.x_w = self.views.weak(batch.labeled), self.views.weak(batch.unlabeled)
        self.mask, self.valid = batch.labeled.mask_BHW, batch.unlabeled.valid_BHW
        strong = self.views.strong(batch.unlabeled, "s1") if train.method.settings.colour else self.x_w
        self.order, self.boxes = [1, 2, 0], self.views.cutmix(batch.unlabeled, "s1", rectangles=3).mask_BHW
        assert 0 < self.boxes.float().mean() < 0.5
        (self.x_s,) = self.mixed(strong)

    def mixed(self, *tensors: Tensor) -> list[Tensor]:
        out = [t.clone() for t in tensors]
        for b in range(len(self.boxes)):
            for mixed, t in zip(out, tensors, strict=True):
                mixed[b][..., self.boxes[b]] = t[self.order[b]][..., self.boxes[b]]
        return out

    def taught(self, teacher: str) -> tuple[Tensor, Tensor, Tensor]:
        """Label, confidence and valid of the mixed weak view."""
        with torch.no_grad():
            conf, label = self.nets[teacher](self.x_w).softmax(1).max(1)
        label, conf, valid = self.mixed(label, conf, self.valid)
        return label, conf, valid

    def student(self, name: str) -> tuple[Tensor, Tensor]:
        logits = self.nets[name](torch.cat([self.x_l, self.x_s]))
        return logits[: len(self.x_l)], logits[len(self.x_l) :]

    def step(self) -> StepOutput:
        out = self.train.method.step(self.batch, self.views)
        assert isinstance(out, StepOutput)
        return out


@pytest.fixture
def case(train_module: Make, host_batch: Batches) -> Callable[..., Case]:
    return lambda **settings: Case(train_module("stpg", **settings), host_batch(7, count=3))


def weighted(logits: Tensor, label: Tensor, weight: Tensor, valid: Tensor) -> float:
    """sum over pixels of weight * CE / number of valid pixels, one pixel at a time."""
    total, log = 0.0, logits.double().log_softmax(1)
    for b, y, x in (valid & (weight > 0)).nonzero().tolist():
        total -= float(weight[b, y, x]) * log[b, label[b, y, x], y, x].item()
    return total / int(valid.sum())


SUBSETS = ["all", "consistent", "high", "low", "consistent+low", "consistent+high", "high+low", "low+high+consistent"]


@pytest.mark.parametrize("selection", SUBSETS)
def test_both_modules(case: Callable[..., Case], selection: str) -> None:
    c = case(pixel_selection=selection, lambda_u=0.7, lambda_ctr=0.0, colour=selection == "all")
    gen_l, gen_s = c.student("gen")
    pro_l, pro_s = c.student("pro")
    label_gen, conf_gen, valid = c.taught("gen_teacher")
    label_pro, conf_pro, _ = c.taught("pro_teacher")

    matrix, predicted = np.zeros((K, K)), pro_s.argmax(1)
    for p, q in zip(predicted[valid].tolist(), label_gen[valid].tolist(), strict=True):
        matrix[p, q] += 1
    score = [
        sum((1 - matrix[q, q] / side.sum()) if side.any() else 0.0 for side in (matrix[q], matrix[:, q]))
        for q in range(K)
    ]
    wanted = torch.zeros_like(valid)
    for b, y, x in valid.nonzero().tolist():
        p, q = int(predicted[b, y, x]), int(label_gen[b, y, x])
        name = "consistent" if p == q else "high" if score[p] < score[q] else "low"
        wanted[b, y, x] = selection == "all" or name in selection.split("+")

    out = c.step()
    assert set(out.losses) == {"labeled", "general", "professional"}
    supervised = F.cross_entropy(gen_l, c.mask, ignore_index=255) + F.cross_entropy(pro_l, c.mask, ignore_index=255)
    assert out.losses["labeled"].item() == pytest.approx(supervised.item(), rel=1e-5)
    general = weighted(gen_s, label_pro, conf_pro, valid)
    assert out.losses["general"].item() == pytest.approx(0.7 * general, rel=1e-5)
    professional = weighted(pro_s, label_gen, conf_gen * wanted, valid)
    assert out.losses["professional"].item() == pytest.approx(0.7 * professional, rel=1e-5)
    assert out.stats["kept"].item() == pytest.approx(wanted.sum().item() / valid.sum().item())
    assert out.stats["kept_pixels"].tolist() == [int((label_gen[wanted] == k).sum()) for k in range(K)]
    assert out.stats["pseudo_pixels"].tolist() == [int((label_gen[valid] == k).sum()) for k in range(K)]
    assert not torch.equal(label_gen, label_pro)


def test_one_module_without_contrast_is_a_mean_teacher(case: Callable[..., Case]) -> None:
    c = case(modules="single", lambda_ctr=0.0)
    assert c.train.method.pro is c.train.method.pro_teacher is None
    logits_l, logits_s = c.student("gen")
    label, conf, valid = c.taught("gen_teacher")
    out = c.step()
    assert set(out.losses) == {"labeled", "general"}
    supervised = F.cross_entropy(logits_l, c.mask, ignore_index=255).item()
    assert out.losses["labeled"].item() == pytest.approx(supervised, rel=1e-5)
    assert out.losses["general"].item() == pytest.approx(weighted(logits_s, label, conf, valid), rel=1e-5)

    sum(out.losses.values()).backward()
    with torch.no_grad():
        for p in c.train.method.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    before = {name: p.double().clone() for name, p in c.nets["gen_teacher"].named_parameters()}
    c.train.method.after_step(CLOCK)
    c.train.method.settle(CLOCK)
    for name, p in c.train.method.gen_teacher.named_parameters():
        theirs = dict(c.train.method.gen.named_parameters())[name.removeprefix("net.")].double()
        torch.testing.assert_close(p.double(), 6 / 15 * before[name] + 9 / 15 * theirs, rtol=1e-5, atol=1e-6)


def test_contrast_sees_labels_and_what_is_taught(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each student's unlabeled pixels carry what teaches it: all valid ones for Gen-Student, kept ones for Pro."""
    c = case(pixel_selection="high", lambda_ctr=0.3)
    given: dict[str, Any] = {}

    def forward(features: list[Tensor], labels: list[Tensor], numbers: list[Tensor]) -> tuple[Tensor, Tensor]:
        given.update(features=features, labels=labels)
        return features[0].sum() * 0 + 2, features[0].sum() * 0 + 3

    monkeypatch.setattr(c.train.method.contrast, "forward", forward)
    monkeypatch.setattr(c.train.method.contrast, "collect", lambda *args: given.update(collected=args))
    label_gen, _, valid = c.taught("gen_teacher")
    label_pro, _, _ = c.taught("pro_teacher")
    out = c.step()
    assert out.losses["anchor"].item() == pytest.approx(0.6)
    assert out.losses["similarity"].item() == pytest.approx(0.9)
    both = torch.cat([c.x_l, c.x_s])
    for name, found in zip(("gen", "pro"), given["features"], strict=True):
        maps = c.nets[name].encode(both)
        torch.testing.assert_close(found, c.nets[name].decode(maps, (SIDE, SIDE)).context)
    gen, pro = given["labels"]
    assert torch.equal(gen, torch.cat([c.mask, label_pro.where(valid, 255)]))
    assert torch.equal(pro[:3], c.mask)
    (kept,) = [term.kept_BHW for term in out.terms if term.name == "professional"]
    assert kept is not None
    assert torch.equal(pro[3:], label_gen.where(kept > 0, 255))
    assert torch.equal(given["collected"][2], c.mask)  # labeled images alone


def test_no_unlabeled_pixel_enters_the_memory(train_module: Make, host_batch: Batches) -> None:
    """Two runs up to a step that differs in its unlabeled images: what the memory holds after it is the same."""
    contents = []
    for other in (0, 1):
        train = train_module("stpg", phi=0.0, memory_size=9, memory_topk=4, match_after=5)
        for step in range(12):
            host = host_batch(step)
            if step == 11 and other:
                host |= {key: value for key, value in host_batch(99).items() if key.startswith("unlabeled")}
            whole_step(train, fed(train, host), Clock(step, 20), backward=False)
            train.method.after_step(Clock(step, 20))
            train.method.settle(Clock(step, 20))
        contents.append(train.method.contrast.memory.state_dict())
    assert contents[0]["written_K"].any()
    assert all(torch.equal(value, contents[1][key]) for key, value in contents[0].items())


def test_the_state_of_the_contrast_survives(train_module: Make, host_batch: Batches) -> None:
    """Before classes are matched and after: a run that is taken up goes on as it would have, and matches when due."""

    def losses(train: Train, steps: range) -> list[dict[str, float]]:
        optimizer, rows = torch.optim.SGD([p for p in train.parameters() if p.requires_grad], lr=0.01), []
        for step in steps:
            out = whole_step(train, fed(train, host_batch(step)), Clock(step, 20))
            optimizer.step()
            optimizer.zero_grad()
            train.method.after_step(Clock(step, 20))
            train.method.settle(Clock(step, 20))
            rows.append({name: value.item() for name, value in out.losses.items()})
        return rows

    one, two, three = (train_module("stpg", phi=0.0, memory_size=9, memory_topk=4, match_after=6) for _ in range(3))
    losses(one, range(9))
    two.load_state_dict(one.state_dict())
    assert (one.method.contrast.assignment_K == -1).all()
    rows = losses(one, range(9, 12))
    assert losses(two, range(9, 12)) == rows
    assert (one.method.contrast.assignment_K >= 0).all()
    three.load_state_dict(one.state_dict())
    rows = losses(one, range(12, 15))
    assert losses(two, range(12, 15)) == losses(three, range(12, 15)) == rows
    assert all(row["anchor"] > 0 for row in rows)
    assert all(row["similarity"] > 0 for row in rows[1:])  # the memory was filled after the first


def test_gen_student_is_deployed(train_module: Make) -> None:
    method = train_module("stpg").method
    assert method.deployed() is method.gen
    assert not any("contrast" in key or "hidden" in key for key in method.deployed().state_dict())


def test_students_share_the_first_encoder_and_no_more(train_module: Make) -> None:
    method = train_module("stpg").method
    same = {
        key: torch.equal(value, method.pro.state_dict()[key])
        for key, value in method.gen.state_dict().items() if key.endswith("weight") and value.dim() == 4
    }  # fmt: skip
    assert all(equal == key.startswith("encoder.") for key, equal in same.items())


@pytest.mark.parametrize("name", ["memory_size", "lambda_ctr", "modules"])
def test_a_step_costs_what_students_and_teachers_cost(train_module: Make, host_batch: Batches, name: str) -> None:
    """Counted: two students forward and backward on 2B images, two teachers forward on B, at most a quarter more."""
    value = {"memory_size": 256, "lambda_ctr": 0.0, "modules": "single"}[name]
    train, host = train_module("stpg", **{name: value}), host_batch(0, count=4, side=65)
    with flop_counter() as one:
        train.method.gen_teacher(torch.zeros(4, 3, 65, 65))
    forward = one.get_total_flops()
    modules = 1 if name == "modules" else 2
    with flop_counter() as counter:
        whole_step(train, fed(train, host), CLOCK)
    floor = modules * (2 * 3 * forward + forward)
    assert 0.93 * floor < counter.get_total_flops() < (1.01 if name == "lambda_ctr" else 1.25) * floor


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pixel_selection": "consistent+hihg"}, "pixel_selection"),
        ({"pixel_selection": "high+high"}, "pixel_selection"),
        ({"pixel_selection": ""}, "pixel_selection"),
        ({"pixel_selection": "all+low"}, "pixel_selection"),
        ({"pixel_selection": "none"}, "pixel_selection"),
        ({"modules": "single", "pixel_selection": "all"}, "pixel_selection"),
        ({"match_after": 0}, "match_after"),
        ({"temperature": 0.0}, "temperature"),
        ({"memory_size": -1}, "memory_size"),
        ({"memory_topk": 0}, "memory_topk"),
        ({"phi": 1.1}, "phi"),
        ({"embedding": 0}, "embedding"),
    ],
)
def test_settings_that_are_impossible(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=rf"method\.{named}\b"):
        STPGSettings(**settings)


def test_few_dimensions_little_memory_nothing_confident(train_module: Make, host_batch: Batches) -> None:
    """More classes than a simplex of that embedding has corners, N below the top-K, no pixel that counts."""
    train = train_module("stpg", embedding=2, memory_size=3, memory_topk=32, phi=1.0, match_after=5)
    host = host_batch()
    host = host | {"unlabeled_valid": torch.zeros_like(host["unlabeled_valid"])}
    for step in range(12):
        out = whole_step(train, fed(train, host), Clock(step, 20), backward=False)
        train.method.after_step(Clock(step, 20))
        train.method.settle(Clock(step, 20))
    assert all(value.isfinite().all() for value in (*out.losses.values(), *out.stats.values()))
    assert out.losses["general"] == out.losses["professional"] == out.losses["similarity"] == 0
    assert out.losses["anchor"] > 0


def test_colour_that_the_run_has_switched_off_is_refused(configured: Callable[..., Any]) -> None:
    assert configured("stpg", {"method.colour": True}).config.method.colour
    with pytest.raises(UsageError, match=r"method\.colour"):
        configured("stpg", {"method.colour": True, "train.colour": 0.0})
