from __future__ import annotations

import numpy as np
import pytest

from semiseg_cli.core.viz.scatter import GROUND, Scatter

COLOURS = np.array([[255, 0, 0], [0, 0, 255], [255, 255, 255]], np.uint8)


def at(drawn: np.ndarray, colour: int) -> np.ndarray:
    """Centre (x, y) of what has a colour."""
    y, x = np.nonzero((drawn == COLOURS[colour]).all(-1))
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_points_fill_the_tile_by_one_factor(factor: float) -> None:
    points = factor * np.array([[0.0, 0.0], [4.0, 1.0]])
    drawn = Scatter(points, np.array([0, 1]), COLOURS).draw(400, 800)
    assert drawn.shape == (400, 800, 3)
    assert at(drawn, 1) - at(drawn, 0) == pytest.approx([780, 195], abs=1)
    assert (at(drawn, 1) + at(drawn, 0)) / 2 == pytest.approx([400, 200], abs=1)
    assert tuple(drawn[20, 20]) == GROUND


def test_the_higher_of_two_fills_the_height() -> None:
    drawn = Scatter(np.array([[0.0, 0.0], [1.0, 4.0]]), np.array([0, 1]), COLOURS).draw(400, 800)
    assert at(drawn, 1) - at(drawn, 0) == pytest.approx([95, 380], abs=1)


@pytest.mark.parametrize(
    ("extent", "shape"), [((4, 3), (300, 400)), ((3, 4), (400, 300)), ((1, 9), (400, 160)), ((0, 0), (400, 400))]
)
def test_the_tile_has_the_shape_of_the_points(extent: tuple[int, int], shape: tuple[int, int]) -> None:
    points = np.array([[5.0, 5.0], [5.0 + extent[0], 5.0 + extent[1]]])
    assert Scatter(points, np.array([0, 1]), COLOURS, side=400).shape == shape


def test_one_point_lies_in_the_middle_and_a_white_one_has_a_rim() -> None:
    tile = Scatter(np.array([[3.0, -7.0]]), np.array([2]), COLOURS, side=100)
    drawn = tile.draw(*tile.shape)
    inside = drawn[5:-5, 5:-5]
    y, x = np.nonzero((inside != 255).any(-1))
    assert (x.mean(), y.mean()) == pytest.approx((45, 45), abs=1)
    assert tuple(drawn[50, 50]) == (255, 255, 255)
    assert inside.min() < 180
