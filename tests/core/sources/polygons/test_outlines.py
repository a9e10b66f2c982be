"""Which pixels an outline covers, against Shapely's point-in-polygon at the pixels' centres."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg_cli.core.sources.polygons.outlines import area, ellipse, filled, rectangle, rotated

HEIGHT, WIDTH = 23, 31


def drawn(ring: object, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    top, left, inside = filled(np.asarray(ring, float), height, width)
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return mask


def centres(shape: shapely.Geometry) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return shapely.contains_xy(shape, x, y)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.1, 20), min_size=3, max_size=12),
    st.floats(-8, WIDTH + 8), st.floats(-8, HEIGHT + 8),
)  # fmt: skip
def test_a_star_is_filled_as_shapely_says(radii: list[float], x: float, y: float) -> None:
    angle = np.arange(len(radii)) * (2 * math.pi / len(radii)) + 0.1234
    ring = np.stack([x + radii * np.cos(angle), y + radii * np.sin(angle)], axis=1)
    star, near = shapely.Polygon(ring), shapely.LinearRing(ring).buffer(1e-9)
    sure = ~centres(near)  # a centre on the outline may be taken for inside or outside
    assert np.array_equal(drawn(ring)[sure], centres(star)[sure])


def test_a_cut_to_a_hole_encloses_nothing() -> None:
    outer, hole = [(2.2, 1.3), (28.1, 3.9), (26.6, 20.2), (4.9, 21.7)], [(10.1, 8.2), (11.7, 15.3), (20.4, 13.1)]
    cut = [outer[0], hole[0], hole[1], hole[2], hole[0], *outer]
    assert np.array_equal(drawn(cut), centres(shapely.Polygon(outer, [hole])))


def test_what_is_enclosed_twice_is_outside() -> None:
    bow = [(1, 1), (21, 21), (21, 1), (1, 21)]
    halves = shapely.union_all(
        [shapely.Polygon([(1, 1), (11, 11), (1, 21)]), shapely.Polygon([(21, 1), (11, 11), (21, 21)])]
    )
    sure = ~centres(shapely.LineString([*bow, bow[0]]).buffer(1e-9))
    assert np.array_equal(drawn(bow)[sure], centres(halves)[sure])
    twice = [*rectangle(2, 2, 20, 12), (2, 2), *rectangle(6, 4, 12, 8), (6, 4)]
    assert drawn(twice).sum() == 18 * 10 - 6 * 4


def test_every_pixel_belongs_to_one_of_the_shapes_around_it() -> None:
    """Triangles whose edges pass through centres of pixels, in both directions."""
    corners = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)]
    for middle in ((11, 11), (15.5, 11.5), (0, 23), (7.25, 3.5)):
        fan = [[corners[k], corners[(k + 1) % 4], middle][:: 1 if k % 2 else -1] for k in range(4)]
        assert (sum(drawn(triangle).astype(int) for triangle in fan) == 1).all()


def test_a_rectangle_between_pixels_is_exact_and_cut_at_the_border() -> None:
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[:5, 28:] = True
    assert np.array_equal(drawn(rectangle(28, -7, 400, 5)), wanted)
    assert not drawn(rectangle(-30, 2, -1, 9)).any()
    assert not drawn([(3, 3), (9, 9)]).any()


@pytest.mark.parametrize(("radius_x", "radius_y"), [(7.3, 4.1), (2000.0, 1500.0)])
def test_an_ellipse_has_its_area(radius_x: float, radius_y: float) -> None:
    assert area(ellipse(5, 9, radius_x, radius_y)) == pytest.approx(math.pi * radius_x * radius_y, rel=0.003)


def test_turning_is_clockwise_as_it_is_seen() -> None:
    turned = rotated(rectangle(0, 0, 4, 2), 90, 0, 0)
    assert np.allclose(turned, [(0, 0), (0, 4), (-2, 4), (-2, 0)])
