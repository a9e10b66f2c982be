"""CutMix boxes: the statistics of the field's generator, and never outside the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steps import images_of, views_of

from semiseg_cli.core.views.cutmix import DRAWS, box_mask, draw_boxes, draw_rectangles


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


def toggled(rng: np.random.Generator, side: int, count: int) -> tuple[float, list[float]]:
    """Mixed area of one mask, and height / width of its rectangles, as CPS draws them: one after the other."""
    mask, aspects = np.zeros((side, side), bool), []
    for _ in range(count):
        share = rng.uniform(0.25, 0.5)
        tall = np.exp(rng.uniform(0, 1) * np.log(share))
        height, width = round(tall * side / count**0.5), round(share / tall * side / count**0.5)
        top, left = round(rng.uniform(0, 1) * (side - height)), round(rng.uniform(0, 1) * (side - width))
        mask[top : top + height, left : left + width] ^= True
        aspects.append(height / width)
    return mask.mean(), aspects


def test_three_rectangles_are_those_drawn_one_by_one() -> None:
    views = views_of(np.arange(4000), (32, 32))
    views.settings = replace(views.settings, cutmix=1.0)
    mix = views.cutmix(images_of(torch.zeros(4000, 3, 32, 32)), "s1", rectangles=3)
    area = mix.mask_BHW.float().mean((1, 2)).numpy()
    rng = np.random.default_rng(2)
    expected, aspects = zip(*(toggled(rng, 32, 3) for _ in range(4000)), strict=True)
    at = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(area, at) == pytest.approx(np.quantile(expected, at), abs=0.012)
    assert abs(area.mean() - 0.25) < 0.01
    views.settings = replace(views.settings, cutmix=0.3)
    some = views.cutmix(images_of(torch.zeros(4000, 3, 32, 32)), "s1", rectangles=3).mask_BHW
    assert some.any((1, 2)).float().mean().item() == pytest.approx(0.3, abs=0.03)
    boxes = draw_rectangles(rng.random((4000, 13)), 32, 32, 3)
    found = (boxes[..., 2] - boxes[..., 0]) / (boxes[..., 3] - boxes[..., 1])
    assert np.quantile(found, at) == pytest.approx(np.quantile(aspects, at), rel=0.08)


@given(st.integers(0, 1000), st.integers(4, 80), st.integers(4, 80), st.integers(2, 4))
def test_rectangles_lie_inside_and_keep_their_area(seed: int, height: int, width: int, count: int) -> None:
    u = np.random.default_rng(seed).random((8, 1 + 4 * count))
    boxes = draw_rectangles(u, height, width, count)
    top, left, bottom, right = np.moveaxis(boxes, 2, 0)
    assert ((top >= 0) & (left >= 0) & (bottom <= height) & (right <= width)).all()
    assert ((bottom >= top) & (right >= left)).all()
    wanted = (0.25 + 0.25 * u[:, 1::4]) / count * height * width
    assert (np.abs((bottom - top) * (right - left) - wanted) <= 0.5 * (height + width) + 0.25).all()
    other = u.copy()
    other[1:] = 0.5
    assert (draw_rectangles(other, height, width, count)[0] == boxes[0]).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_how_often_there_is_a_box(probability: float) -> None:
    boxes = draw_boxes(np.random.default_rng(2).random((4000, DRAWS)), 64, 64, probability)
    assert (boxes.any(1)).mean() == pytest.approx(probability, abs=0.03)
    rectangles = draw_rectangles(np.random.default_rng(2).random((4000, 13)), 64, 64, 3, probability)
    there = rectangles.any(2)
    assert (there.all(1) == there.any(1)).all()  # all of an image's, or none
    assert there.mean() == pytest.approx(probability, abs=0.03)
