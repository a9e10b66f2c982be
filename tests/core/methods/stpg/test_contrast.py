"""Eqs. 15 and 16 against loops in float64, and which pixels are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from semiseg_cli.core.methods.stpg.contrast import anchor_loss, draw_pixels, first_of_class, similarity_loss

K, D, S = 4, 6, 30


def features(seed: int):
    rng = torch.Generator().manual_seed(seed)
    f = F.normalize(torch.randn(S, D, generator=rng, dtype=torch.float64), dim=1)
    anchors = F.normalize(torch.randn(K, D, generator=rng, dtype=torch.float64), dim=1)
    return f, torch.randint(K, (S,), generator=rng), torch.rand(S, generator=rng) < 0.7, anchors


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


@pytest.mark.parametrize("assigned", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]])
@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_anchor_loss(assigned: list[int], tau: float) -> None:
    f, label, taken, anchors = features(0)
    terms = []
    for s in range(S):
        c = int(label[s])
        if taken[s] and assigned[c]:
            others = sum(math.exp(dot(f[s], anchors[k]) / tau) for k in range(K) if assigned[k] and k != c)
            own = math.exp(dot(f[s], anchors[c]) / tau)
            terms.append(-math.log(own / (own + others)))
    found = anchor_loss(f, label, taken, anchors, torch.tensor(assigned) > 0, tau)
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10, abs=1e-12)


def test_similarity_loss() -> None:
    f, label, taken, _ = features(1)
    rng = torch.Generator().manual_seed(2)
    sizes = [3, 1, 0, 5]
    queues = [F.normalize(torch.randn(n, D, generator=rng, dtype=torch.float64), dim=1) for n in sizes]
    terms = []
    for s in range(S):
        if taken[s]:
            queue = queues[int(label[s])]
            terms.append(sum(1 - dot(f[s], q) for q in queue) / len(queue) if len(queue) else 0.0)
    means = torch.stack([q.mean(0) if len(q) else torch.zeros(D, dtype=torch.float64) for q in queues])
    found = similarity_loss(f, label, taken, means, torch.tensor(sizes))
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


@pytest.mark.parametrize("nothing", ["taken", "assigned"])
def test_nothing_to_contrast_is_zero_with_a_gradient_of_zero(nothing: str) -> None:
    f, label, taken, anchors = features(3)
    f.requires_grad_(True)
    assigned = torch.full((K,), nothing != "assigned")
    taken = taken & (nothing != "taken")
    loss = anchor_loss(f, label, taken, anchors, assigned, 0.5)
    loss = loss + similarity_loss(f, label, taken, anchors, torch.zeros(K))
    (gradient,) = torch.autograd.grad(loss, f)
    assert loss.item() == 0
    assert not gradient.any()


def test_autocast_leaves_the_products_in_full_precision() -> None:
    f, label, taken, anchors = (x.float() if x.is_floating_point() else x for x in features(4))
    plain = anchor_loss(f, label, taken, anchors, torch.ones(K) > 0, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(anchor_loss(f, label, taken, anchors, torch.ones(K) > 0, 0.5), plain)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12))
def test_the_first_pixels_of_every_class(seed: int, pixels: int, count: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    label = torch.tensor([0, 1, 2, 3, K, 255])[torch.randint(6, (pixels,), generator=rng)]
    order = torch.randperm(pixels, generator=rng)
    index, exists = first_of_class(order, label, K, count)
    assert index.shape == exists.shape == (K, count)
    assert ((index >= 0) & (index < pixels)).all()
    for k in range(K):
        expected = [i for i in order.tolist() if label[i] == k][:count]
        assert index[k][exists[k]].tolist() == expected


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12))
def test_pixels_are_drawn_once_and_of_every_class_alike(seed: int, pixels: int, count: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    label = torch.tensor([0, 1, 2, 3, K, 255])[torch.randint(6, (pixels,), generator=rng)]
    number = torch.randint(2**32, (pixels,), generator=rng)
    index, drawn = draw_pixels(number, label, K, count)
    assert len(index) == len(drawn) == min(pixels, K * count)
    chosen = index[drawn].tolist()
    assert len(set(chosen)) == len(chosen)
    for k in range(K):  # those with the least numbers
        own = sorted((i for i in range(pixels) if label[i] == k), key=lambda i: int(number[i]))
        assert {i for i in chosen if label[i] == k} == set(own[:count])
    assert all(label[i] < K for i in chosen)
