"""The boundary F-score against pixel loops and distance transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from semiseg_cli.core.inference.boundary import boundary_f


def loops(pred: np.ndarray, label: np.ndarray, k: int, radius: int) -> float:
    """F of class k in one image: edges by neighbours, matches by distance transform."""

    def edges(inside: np.ndarray) -> np.ndarray:
        height, width = inside.shape
        out = np.zeros_like(inside)
        for y in range(height):
            for x in range(width):
                near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                out[y, x] = any(inside[j, i] != inside[y, x] for j, i in near if j < height and i < width)
        return out

    ours, theirs = (pred == k) & (label != 255), label == k
    if not ours.any() and not theirs.any():
        return math.nan
    a, b = edges(ours), edges(theirs)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = (distance_transform_edt(~b)[a] <= radius).mean()
    recall = (distance_transform_edt(~a)[b] <= radius).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    threshold=st.sampled_from([0.0003, 0.1, 0.2, 0.9]),
)
def test_equals_loops(seed: int, size: tuple[int, int], threshold: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (2, 2, 4, 4))
    pred, label = coarse.repeat(4, 2).repeat(4, 3)[:, :, : size[0], : size[1]].copy()
    pred[rng.random(pred.shape) < 0.05] = 1
    label[rng.random(label.shape) < 0.05] = 255
    found = boundary_f(torch.tensor(pred), torch.tensor(label), 4, threshold=threshold)
    radius = math.ceil(threshold * math.sqrt(size[0] ** 2 + size[1] ** 2))
    wanted = [[loops(p, t, k, radius) for k in range(4)] for p, t in zip(pred, label, strict=True)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def square(shift: int, size: tuple[int, int] = (40, 60)) -> torch.Tensor:
    mask = torch.zeros(1, *size, dtype=torch.uint8)
    mask[:, 10:30, 10 + shift : 30 + shift] = 1
    return mask


def test_a_shift_within_the_tolerance_is_perfect_and_beyond_it_is_not() -> None:
    assert boundary_f(square(0), square(0), 2).tolist() == [[1.0, 1.0]]
    assert boundary_f(square(1), square(0), 2).tolist() == [[1.0, 1.0]]
    assert boundary_f(square(4), square(0), 2)[0, 1] < 0.6
    assert boundary_f(square(4), square(0), 2, threshold=0.05)[0, 1] == 1  # 0.05 of 72.1 pixels is 4


@pytest.mark.parametrize(("threshold", "reach"), [(0.0003, 1), (0.00088, 3), (0.001875, 5)])
def test_pixels_on_cityscapes(threshold: float, reach: int) -> None:
    """A boundary `reach` pixels away is matched, the next one is not: the pixels the field names for 1024x2048."""
    label = torch.zeros(1, 1024, 2048, dtype=torch.uint8)
    label[:, 500:] = 1
    for distance, wanted in ((reach, 1.0), (reach + 1, 0.0)):
        pred = torch.zeros_like(label)
        pred[:, 500 + distance :] = 1
        assert boundary_f(pred, label, 2, threshold=threshold).tolist() == [[wanted, wanted]]


def test_absent_missed_and_invented_classes() -> None:
    nothing, thing = torch.zeros(1, 40, 60, dtype=torch.uint8), square(0)
    missed, invented = boundary_f(nothing, thing, 3)[0], boundary_f(thing, nothing, 3)[0]
    assert missed[1] == invented[1] == 0
    assert missed[2].isnan()
    assert boundary_f(nothing, nothing, 2)[0, 0] == 1


def test_ignored_pixels_belong_to_no_class() -> None:
    label, pred = square(0), square(0)
    label[:, :, 20:] = 255
    pred[:, 5:35, 20:] = 2
    found = boundary_f(pred, label, 3)[0]
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[2].isnan()
