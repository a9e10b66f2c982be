"""CutMix boxes: the statistics of the field's generator (methods.md, section 1), and never outside the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.views.cutmix import DRAWS, box_mask, draw_boxes


def redrawn(rng: np.random.Generator, side: int) -> tuple[int, int]:
    """Height and width of one box as the field draws it, one number after the other."""
    area = rng.uniform(0.02, 0.4) * side * side
    while True:
        ratio = rng.uniform(0.3, 1 / 0.3)
        height, width = int(np.sqrt(area * ratio)), int(np.sqrt(area / ratio))
        top, left = rng.integers(0, side), rng.integers(0, side)
        if top + height <= side and left + width <= side:
            return height, width


def test_statistics_at_321() -> None:
    boxes = draw_boxes(np.random.default_rng(0).random((20_000, DRAWS)), 321, 321)
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    full = height * width > 0
    assert abs(full.mean() - 0.5) < 0.01
    assert (boxes[~full] == 0).all()
    height, width = height[full], width[full]
    area = height * width / 321**2
    assert abs(area.mean() - 0.209) < 0.003
    assert area.min() > 0.018
    assert area.max() <= 0.4
    assert np.quantile(height / width, [0.25, 0.5, 0.75]) == pytest.approx([0.96, 1.54, 2.21], abs=0.03)
    assert abs(width.mean() / 321 - 0.387) < 0.004
    assert abs(height.mean() / 321 - 0.533) < 0.004


def test_quantiles_are_those_of_redrawing_one_by_one() -> None:
    rng = np.random.default_rng(1)
    u = rng.random((20_000, DRAWS))
    u[:, 0] = 0
    boxes = draw_boxes(u, 96, 96)
    found = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]])
    expected = np.array([redrawn(rng, 96) for _ in range(10_000)]).T
    at = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(found, at, axis=1) == pytest.approx(np.quantile(expected, at, axis=1), abs=1.5)


@given(st.integers(0, 1000), st.integers(8, 80), st.integers(8, 80))
def test_a_box_lies_inside_and_keeps_its_area(seed: int, height: int, width: int) -> None:
    u = np.random.default_rng(seed).random((16, DRAWS))
    u[:, 0] = 0
    top, left, bottom, right = draw_boxes(u, height, width).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top <= bottom).all()
    assert (left <= right).all()
    assert (bottom <= height).all()
    assert (right <= width).all()
    if max(height, width) > 2 * min(height, width):
        return  # an elongated image: large boxes never fit and are cut
    wanted = (0.02 + 0.38 * u[:, 1]) * height * width
    assert (np.sqrt(wanted) - np.sqrt((bottom - top) * (right - left)) < 2.3).all()  # rounded down on either side


def test_a_box_that_never_fits_is_moved_inside() -> None:
    u = np.full((1, DRAWS), 0.999)
    u[0, 0] = 0
    ((top, left, bottom, right),) = draw_boxes(u, 32, 48)
    assert 0 <= top < bottom <= 32
    assert 0 <= left < right <= 48


def test_mask_of_a_box() -> None:
    boxes = torch.tensor([[1, 2, 4, 7], [0, 0, 0, 0], [0, 0, 6, 8]])
    expected = np.zeros((3, 6, 8), bool)
    expected[0, 1:4, 2:7] = True
    expected[2] = True
    assert np.array_equal(box_mask(boxes, 6, 8).numpy(), expected)
