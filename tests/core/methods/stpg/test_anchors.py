"""Anchors: the simplex is a simplex and the minimum of eq. 12; classes get the anchors that are nearest in sum."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.methods.stpg.anchors import anchor_energy, assign, make_anchors, simplex, spread


@pytest.mark.parametrize(("count", "dimensions"), [(2, 1), (2, 8), (4, 3), (11, 256), (19, 256), (21, 256), (257, 256)])
def test_every_two_corners_of_a_simplex_are_equally_far_apart(count: int, dimensions: int) -> None:
    for anchors in (simplex(count, dimensions), make_anchors(count, dimensions, 0.5).double()):
        assert anchors.shape == (count, dimensions)
        cosines = anchors @ anchors.T
        expected = torch.full((count, count), -1 / (count - 1), dtype=torch.float64).fill_diagonal_(1)
        assert (cosines - expected).abs().max() < 1e-6
    assert make_anchors(count, dimensions, 0.5).dtype == torch.float32


def test_the_energy_is_equation_12() -> None:
    v = spread(4, 3, 0.5, steps=1).tolist()
    total = sum(
        math.log(sum(math.exp(sum(a * b for a, b in zip(one, two, strict=True)) / 0.5) for two in v)) for one in v
    )
    assert anchor_energy(torch.tensor(v, dtype=torch.float64), 0.5).item() == pytest.approx(total / 4, rel=1e-9)


@pytest.mark.parametrize(("count", "dimensions"), [(4, 3), (6, 16), (21, 32)])
def test_descending_the_energy_ends_at_the_simplex(count: int, dimensions: int) -> None:
    found, best = spread(count, dimensions, 0.5), simplex(count, dimensions)
    least = anchor_energy(best, 0.5).item()
    assert least - 1e-12 <= anchor_energy(found, 0.5).item() < least + 1e-5
    assert ((found @ found.T).triu(1) - (best @ best.T).triu(1)).abs().max() < 0.01


@pytest.mark.parametrize(("count", "dimensions", "cosine"), [(4, 2, 0.0), (6, 3, 0.0), (12, 3, 1 / math.sqrt(5))])
def test_more_classes_than_a_simplex_has_corners(count: int, dimensions: int, cosine: float) -> None:
    """Square, octahedron and icosahedron: no two anchors are nearer than their corners are."""
    anchors = make_anchors(count, dimensions, 0.5)
    assert torch.allclose(anchors.norm(dim=1), torch.ones(count))
    assert (anchors @ anchors.T - 2 * torch.eye(count)).max() < cosine + 0.02
    assert torch.equal(anchors, make_anchors(count, dimensions, 0.5))


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_assignment_is_the_optimum(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors, prototypes = torch.randn(2, classes, 5, generator=generator, dtype=torch.float64)
    none, seen = torch.full((classes,), -1), torch.ones(classes, dtype=torch.bool)
    found = assign(anchors, prototypes, seen, none).tolist()
    assert sorted(found) == list(range(classes))
    distance = torch.cdist(prototypes, anchors).tolist()

    def cost(order: tuple[int, ...]) -> float:
        return sum(distance[k][v] for k, v in enumerate(order))

    least = min(map(cost, itertools.permutations(range(classes))))
    assert cost(tuple(found)) == pytest.approx(least, rel=1e-9)


def test_seven_classes_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(5)
    anchors, prototypes = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    distance = torch.cdist(prototypes, anchors).numpy()
    orders = np.array(list(itertools.permutations(range(7))))
    costs = distance[np.arange(7), orders].sum(1)
    found = assign(anchors, prototypes, torch.ones(7, dtype=torch.bool), torch.full((7,), -1))
    assert found.tolist() == orders[costs.argmin()].tolist()


def test_a_class_that_comes_late_gets_one_of_the_free_anchors() -> None:
    anchors = simplex(4, 3).float()
    prototypes = anchors[[2, 0, 2, 1]] * 0.5  # class 2 would like the anchor of class 0
    none = torch.full((4,), -1)
    first = assign(anchors, prototypes, torch.tensor([True, True, False, False]), none)
    assert first.tolist() == [2, 0, -1, -1]
    later = assign(anchors, prototypes.flip(0), torch.tensor([True, True, True, True]), first)
    assert later[:2].tolist() == [2, 0]  # for good
    assert sorted(later.tolist()) == [0, 1, 2, 3]
    assert torch.equal(assign(anchors, prototypes, torch.ones(4, dtype=torch.bool), later), later)
    assert torch.equal(assign(anchors, prototypes, torch.zeros(4, dtype=torch.bool), none), none)
