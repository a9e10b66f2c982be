"""Prototypes and the pull towards them, against loops over pixels in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semiseg_cli.core.methods.s4mim.classwise import one_hot
from semiseg_cli.core.methods.s4mim.prototypes import aggregation_loss, class_means

CLASSES, CHANNELS, TAU = 5, 4, 10.0
EMPTY = 3


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, groups (class 3 has no pixel), confidences, and the pixels that count (a border and a half do not)."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(3, CHANNELS, 6, 5, generator=rng, dtype=torch.float64).relu()
    group = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (3, 6, 5), generator=rng)]
    conf = torch.rand(3, 6, 5, generator=rng, dtype=torch.float64) * 0.8 + 0.2
    counted = torch.rand(3, 6, 5, generator=rng) < 0.6
    counted[:, -1] = counted[0, :, -2:] = False  # padding
    return features, group, conf, counted


def pixels(group: Tensor, counted: Tensor, k: int) -> list[tuple[int, ...]]:
    return [tuple(at) for at in torch.nonzero(counted & (group == k)).tolist()]


def means_of(features: Tensor, group: Tensor, conf: Tensor, counted: Tensor) -> Tensor:
    """Equation 9, pixel by pixel."""
    out = torch.zeros(CLASSES, CHANNELS, dtype=torch.float64)
    for k in range(CLASSES):
        places = pixels(group, counted, k)
        total = sum(conf[at].item() for at in places)
        for b, y, x in places:
            out[k] += conf[b, y, x] * features[b, :, y, x] / total
    return out


def loss_of(features: Tensor, group: Tensor, conf: Tensor, counted: Tensor, prototypes: Tensor) -> Tensor:
    """Equations 10 to 12, pixel by pixel."""
    per_class = []
    for k in range(CLASSES):
        places = pixels(group, counted, k)
        if not places or not prototypes[k].any():
            continue
        total = sum(conf[at].item() for at in places)
        value = torch.zeros((), dtype=torch.float64)
        for b, y, x in places:
            z = features[b, :, y, x]
            norms = math.sqrt(prototypes[k].square().sum()) * z.square().sum().sqrt()
            value = value + conf[b, y, x] * (1 - (z @ prototypes[k]) / norms.clamp(min=1e-9)) / TAU
        per_class.append(value / total)
    return sum(per_class, torch.zeros((), dtype=torch.float64)) / max(len(per_class), 1)


def weights(group: Tensor, conf: Tensor, counted: Tensor) -> Tensor:
    return one_hot(group, CLASSES, conf * counted)


def test_means() -> None:
    features, group, conf, counted = example()
    means, present = class_means(features.requires_grad_(), weights(group, conf, counted))
    assert torch.allclose(means, means_of(features.detach(), group, conf, counted), rtol=1e-12)
    assert present.tolist() == [k != EMPTY for k in range(CLASSES)]
    assert not means[EMPTY].any()
    assert not means.requires_grad


def test_aggregation_with_an_empty_class_and_an_unknown_prototype() -> None:
    features, group, conf, counted = example()
    prototypes = torch.randn(CLASSES, CHANNELS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    prototypes[1] = 0  # not seen yet
    prototypes.requires_grad_()
    features.requires_grad_()
    mine = aggregation_loss(features, weights(group, conf, counted), prototypes, TAU)
    theirs = loss_of(features, group, conf, counted, prototypes.detach())
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-10)
    assert 0 < mine.item() < 2 / TAU
    (gradient,) = torch.autograd.grad(mine, features, retain_graph=True)
    nonzero = (features.detach() != 0).any(1)  # the loop's square root has no derivative at zero
    (expected,) = torch.autograd.grad(theirs, features)
    assert torch.allclose(gradient * nonzero[:, None], expected.nan_to_num() * nonzero[:, None], atol=1e-12)
    assert not gradient.masked_select(~counted[:, None].expand_as(gradient)).any()
    assert torch.autograd.grad(mine, prototypes, allow_unused=True) == (None,)


def test_what_points_the_right_way_costs_nothing() -> None:
    _, group, conf, counted = example()
    prototypes = torch.eye(CLASSES, dtype=torch.float64)
    features = 7 * prototypes[group].permute(0, 3, 1, 2)
    assert aggregation_loss(features, weights(group, conf, counted), prototypes, TAU).item() == pytest.approx(0)
    assert aggregation_loss(-features, weights(group, conf, counted), prototypes, TAU).item() == pytest.approx(2 / TAU)


def test_nothing_to_pull() -> None:
    features, group, conf, counted = example()
    features.requires_grad_()
    known, nothing = torch.ones(CLASSES, CHANNELS, dtype=torch.float64), torch.zeros_like(counted)
    for w, prototypes in (
        (weights(group, conf, nothing), known),
        (weights(group, conf, counted), torch.zeros_like(known)),
    ):
        loss = aggregation_loss(features, w, prototypes, TAU)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, features)[0].any()
    means, present = class_means(features, weights(group, conf, nothing))
    assert not means.any()
    assert not present.any()


def test_a_vector_of_zeros_has_no_direction() -> None:
    """Behind a ReLU they occur."""
    features = torch.zeros(1, CHANNELS, 1, 2, requires_grad=True)
    w = one_hot(torch.tensor([[[0, 1]]]), CLASSES, torch.ones(1, 1, 2))
    loss = aggregation_loss(features, w, torch.ones(CLASSES, CHANNELS), TAU)
    assert loss.item() == pytest.approx(1 / TAU)
    assert not torch.autograd.grad(loss, features)[0].any()


def test_in_half_precision_the_cosine_is_not() -> None:
    features, group, conf, counted = example()
    w, prototypes = weights(group, conf, counted).float(), torch.rand(CLASSES, CHANNELS)
    exact = aggregation_loss(features.float(), w, prototypes, TAU)
    with torch.autocast("cpu", torch.bfloat16):
        assert aggregation_loss(features.float(), w, prototypes, TAU).item() == pytest.approx(exact.item(), rel=1e-6)
