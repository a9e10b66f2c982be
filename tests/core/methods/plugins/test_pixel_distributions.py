"""The inter-pixel loss against plain loops in float64, at the edges of Omega, and its gradient."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semiseg_cli.core.methods.plugins.pixel_distributions import inter_pixel_loss

Distance = Literal["kl", "pearson"]


def reference(teacher: Tensor, student: Tensor, region: Tensor, t: float, distance: Distance) -> float:
    """Eqs. 2, 4 and 5, number by number."""
    images, classes = teacher.shape[:2]
    total = 0.0
    for b in range(images):
        pixels = [(y, x) for y in range(region.shape[1]) for x in range(region.shape[2]) if region[b, y, x]]
        if len(pixels) < 2:
            continue
        for k in range(classes):
            u, v = ([math.exp(float(each[b, k, y, x]) / t) for y, x in pixels] for each in (teacher, student))
            u, v = [value / sum(u) for value in u], [value / sum(v) for value in v]
            if distance == "kl":
                apart = sum(p * math.log(p / q) for p, q in zip(u, v, strict=True))
            else:
                du, dv = ([value - 1 / len(pixels) for value in each] for each in (u, v))
                product = sum(a * b for a, b in zip(du, dv, strict=True))
                apart = 1 - product / math.sqrt(sum(a * a for a in du) * sum(b * b for b in dv))
            total += apart / (classes * math.log(len(pixels)))
    return total / images


def drawn(seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(2, 3, 3, 5, 4, dtype=torch.float64, generator=generator)
    return logits[0], logits[1], torch.rand(3, 5, 4, generator=generator) < share


@pytest.mark.parametrize("distance", ["kl", "pearson"])
@given(seed=st.integers(0, 30), share=st.sampled_from([0.1, 0.5, 1.0]), t=st.sampled_from([1.0, 4.0]))
def test_it_is_equation_2(distance: Distance, seed: int, share: float, t: float) -> None:
    teacher, student, region = drawn(seed, share)
    found = inter_pixel_loss(teacher, student, region, t, distance)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(reference(teacher, student, region, t, distance), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", ["kl", "pearson"])
@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_an_image_with_almost_no_confident_pixel(distance: Distance, pixels: int) -> None:
    teacher, student, _ = drawn(0, 1.0)
    region = torch.ones(3, 20, dtype=torch.bool)
    region[1] = False
    region[1, :pixels] = True
    region = region.view(3, 5, 4)
    student.requires_grad_()
    loss = inter_pixel_loss(teacher, student, region, 4.0, distance)
    assert loss.item() == pytest.approx(reference(teacher, student.detach(), region, 4.0, distance), rel=1e-9)
    loss.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert not student.grad[:, :, 0].isnan().any()
    assert student.grad[0].any()
    assert bool(student.grad[1].any()) == (pixels == 2)
    assert not student.grad.permute(0, 2, 3, 1)[~region].any()


@pytest.mark.parametrize("distance", ["kl", "pearson"])
def test_no_confident_pixel_at_all(distance: Distance) -> None:
    teacher, student, region = drawn(1, 0.0)
    loss = inter_pixel_loss(teacher, student.requires_grad_(), region, 4.0, distance)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("distance", ["kl", "pearson"])
def test_the_gradient_is_the_students_alone_and_right(distance: Distance) -> None:
    teacher, student, region = drawn(2, 0.7)
    teacher.requires_grad_()
    inter_pixel_loss(teacher, student.clone().requires_grad_(), region, 4.0, distance).backward()
    assert teacher.grad is None
    check = torch.autograd.gradcheck(
        lambda x: inter_pixel_loss(teacher, x, region, 4.0, distance), (student.clone().requires_grad_(),)
    )
    assert check


@pytest.mark.parametrize("distance", ["kl", "pearson"])
def test_agreement_costs_nothing_and_a_constant_is_not_seen(distance: Distance) -> None:
    teacher, _, region = drawn(3, 0.8)
    shifted = teacher + torch.arange(3.0)[:, None, None]  # per class: the distribution over pixels is the same
    assert inter_pixel_loss(teacher, shifted, region, 4.0, distance).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("distance", ["kl", "pearson"])
def test_flat_and_extreme_logits_stay_finite(distance: Distance) -> None:
    flat = torch.zeros(1, 2, 4, 4, requires_grad=True)
    steep = 1e4 * torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
    for teacher, student in ((steep, flat), (flat.detach(), flat)):
        loss = inter_pixel_loss(teacher, student, everywhere, 1.0, distance)
        loss.backward()
        assert loss.isfinite()
        assert flat.grad is not None
        assert flat.grad.isfinite().all()


def test_bfloat16_logits_are_compared_in_float32() -> None:
    teacher, student, region = drawn(4, 0.8)
    loss = inter_pixel_loss(teacher.bfloat16(), student.bfloat16(), region)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(inter_pixel_loss(teacher, student, region).item(), rel=0.05)
