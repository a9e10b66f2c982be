"""MaskMatch: its equations against loops in float64, its variants, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_small import TINY
from steps import fed, views_of, whole_step
from torch import Tensor

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.ops.scales import logits_at
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.training.measure import flop_counter
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock

Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]
CLOCK = Clock(9, 10)


def step(train: Train, batch: dict[str, Tensor]) -> StepOutput:
    return whole_step(train, fed(train, batch), CLOCK, backward=False)


def cross_entropy(logits_BKHW: Tensor, label_BHW: Tensor, weight_BHW: Tensor) -> float:
    """Eqs. 3 and 6 pixel by pixel: mean over images of the weighted mean over pixels."""
    total = 0.0
    for logits, label, weight in zip(logits_BKHW.double(), label_BHW, weight_BHW.double(), strict=True):
        value, count = 0.0, 0.0
        for y in range(label.shape[0]):
            for x in range(label.shape[1]):
                if weight[y, x]:
                    column = logits[:, y, x]
                    value += float(weight[y, x] * (column.exp().sum().log() - column[label[y, x]]))
                    count += float(weight[y, x])
        total += value / count if count else 0.0
    return total / len(label_BHW)


def test_the_losses_are_equations_6_and_8(train_module: Make, host_batch: Batches) -> None:
    first = step(train_module("maskmatch"), host_batch()).weak
    assert first is not None
    tau = first.pseudo.conf_BHW.median().item()
    train = train_module("maskmatch", tau=tau, patch=8, lambda_1=0.5, lambda_2=2.0)
    out = step(train, host_batch())
    strong, masked = out.terms
    assert out.weak is not None
    for term, pseudo in ((strong, strong.pseudo), (masked, out.weak.pseudo)):
        kept = (pseudo.conf_BHW > tau) & pseudo.valid_BHW
        assert 0 < kept.sum() < kept.numel()
        assert torch.equal(term.kept_BHW, kept.float())
    per_scale = [strong.logits_BKHW, *(logits_at(train.method.net, strong.image_B3HW, factor) for factor in (0.7, 1.5))]
    expected = [cross_entropy(logits.detach(), strong.pseudo.label_BHW, strong.kept_BHW) for logits in per_scale]
    assert out.losses["strong"].item() == pytest.approx(0.5 * sum(expected) / 3, rel=1e-5)
    expected_masked = cross_entropy(masked.logits_BKHW.detach(), masked.pseudo.label_BHW, masked.kept_BHW)
    assert out.losses["masked"].item() == pytest.approx(2.0 * expected_masked, rel=1e-5)


def test_the_pseudo_label_is_the_mean_over_scales(train_module: Make, host_batch: Batches) -> None:
    train = train_module("maskmatch", tau=0.0, patch=8)
    weak = step(train, host_batch()).weak
    assert weak is not None
    with torch.no_grad():
        each = [logits_at(train.method.teacher.net, weak.image_B3HW, f).softmax(1) for f in (1.0, 0.7, 1.5)]
    conf, label = torch.stack(each).mean(0).max(1)
    assert torch.allclose(weak.pseudo.conf_BHW, conf, atol=1e-6)
    assert (weak.pseudo.label_BHW == label).float().mean() > 0.999  # but for ties
    alone, _ = each[0].max(1)
    assert not torch.allclose(weak.pseudo.conf_BHW, alone, atol=1e-3)


def hidden(train: Train, kind: str = "random") -> Tensor:
    views = views_of([0, 1], (33, 33), step=CLOCK.step)
    return views.patches("masked", 8, 0.7, kind, exact=False)  # type: ignore[arg-type]  (a parameter of the test)


@pytest.mark.parametrize("kind", ["random", "block", "grid"])
def test_the_masked_view_lacks_the_hidden_patches(kind: str, train_module: Make, host_batch: Batches) -> None:
    train = train_module("maskmatch", tau=0.0, patch=8, hidden=kind)
    out, mask = step(train, host_batch()), hidden(train, kind)
    masked = next(term.image_B3HW for term in out.terms if term.name == "masked")
    assert out.weak is not None
    assert mask.any()
    assert not masked.permute(0, 2, 3, 1)[mask].any()
    assert torch.equal(masked.permute(0, 2, 3, 1)[~mask], out.weak.image_B3HW.permute(0, 2, 3, 1)[~mask])


def test_labels_of_visible_pixels_only(train_module: Make, host_batch: Batches) -> None:
    train = train_module("maskmatch", tau=0.0, patch=8, masked_task="visible")
    out, mask = step(train, host_batch()), hidden(train)
    term = next(term for term in out.terms if term.name == "masked")
    assert torch.equal(term.kept_BHW > 0, ~mask & term.pseudo.valid_BHW)
    expected = cross_entropy(term.logits_BKHW.detach(), term.pseudo.label_BHW, term.kept_BHW)
    assert out.losses["masked"].item() == pytest.approx(expected, rel=1e-5)


def test_without_a_masked_task_there_is_no_masked_view(train_module: Make, host_batch: Batches) -> None:
    out = step(train_module("maskmatch", tau=0.0, masked_task="none"), host_batch())
    assert set(out.losses) == {"labeled", "strong"}
    assert [term.name for term in out.terms] == ["strong"]


def test_the_image_is_reconstructed_from_its_mean_on(train_module: Make, host_batch: Batches) -> None:
    train = train_module("maskmatch", tau=0.0, patch=8, masked_task="reconstruction", lambda_2=3.0)
    out = step(train, host_batch())
    weak = out.weak
    assert weak is not None
    valid = weak.pseudo.valid_BHW
    mean_square = weak.image_B3HW.permute(0, 2, 3, 1)[valid].double().square().mean()
    assert not valid.all()
    assert out.losses["masked"].item() == pytest.approx(3 * mean_square.item(), rel=1e-5)
    optimizer = torch.optim.SGD([p for p in train.parameters() if p.requires_grad], lr=0.02)
    for _ in range(8):
        out = step(train, host_batch())
        torch.stack(list(out.losses.values())).sum().backward()
        assert all(p.grad is not None for p in train.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    assert out.losses["masked"].item() < 2.9 * mean_square.item()


@pytest.mark.parametrize("more", [{"masked_task": "everywhere"}, {"scales": (1.0, 0.7, 1.5)}], ids=["masked", "scaled"])
def test_altered_images_leave_the_running_statistics_alone(
    more: dict[str, Any], train_module: Make, host_batch: Batches
) -> None:
    buffers = []
    for added in ({}, more):
        train = train_module("maskmatch", **{"tau": 0.0, "patch": 8, "scales": (1.0,), "masked_task": "none"} | added)
        step(train, host_batch())
        named = train.method.net.named_buffers()
        buffers.append({name: value for name, value in named if "num_batches" not in name})
    assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())


@pytest.mark.parametrize(("scales", "least", "most"), [((1.0, 0.7, 1.5), 9.3, 9.6), ((1.0,), 3.99, 4.02)])
def test_forwards_of_one_image_per_labeled_image(
    scales: tuple[float, ...], least: float, most: float, train_module: Make, host_batch: Batches
) -> None:
    """Table 5: 9.3 to 9.6 with everything on, 4.0 with LCR and without MS; blurring the strong view counts along."""
    train, side = train_module("maskmatch", spec=TINY, tau=0.0, scales=scales), 257
    with flop_counter() as one, torch.no_grad():
        train.method.net(torch.zeros(2, 3, side, side))
    with flop_counter() as whole:
        step(train, host_batch(side=side))
    forwards = whole.get_total_flops() / one.get_total_flops()
    assert least <= forwards <= most


def configured(**settings: Any) -> None:
    layer = {"method.name": "maskmatch", **{name.replace("__", "."): value for name, value in settings.items()}}
    resolve([("here", layer)])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method__patch": 65, "train__crop": 64}, r"method.patch = 65 .* at most train.crop = 64"),
        ({"method__patch": 0}, r"method.patch = 0"),
        ({"method__ratio": 1.0}, r"method.ratio = 1.0 .* in \[0, 1\)"),
        ({"method__ratio": -0.1}, r"method.ratio"),
        ({"method__scales": "0.7,1.5"}, r"method.scales .* 1 among them"),
        ({"method__scales": "1,-2"}, r"method.scales"),
        ({"method__scales": "1,2,2"}, r"method.scales"),
        ({"method__scales": ""}, r"method.scales"),
        ({"method__scales": "1,0.1", "train__crop": 96}, r"method.scales .* crop of 96 pixels .* more than one"),
        ({"method__lambda_2": -1}, r"method.lambda_2"),
    ],
)
def test_what_cannot_be_is_refused_when_settings_are_resolved(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        configured(**settings)
    assert caught.value.why == "it was set by: here"


def test_what_can_be_is_not_refused() -> None:
    configured(method__patch=64, train__crop=64, method__scales="1")
    configured(method__patch=100, train__crop=64, method__masked_task="none")
    assert fit_side(96, 1, 0.18) == 17
    configured(method__scales="1,0.18", train__crop=96)
