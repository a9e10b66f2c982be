"""Rounding of sides: the nearest multiple, what the papers' recipes have, and nothing for a network that takes all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.ops.sizes import fit_image, fit_side

SIDES, MULTIPLES = st.integers(1, 800), st.sampled_from([1, 14, 16, 32])


@given(side=SIDES, multiple=MULTIPLES)
def test_a_side_becomes_the_nearest_multiple(side: int, multiple: int) -> None:
    found = fit_side(side, multiple)
    assert found % multiple == 0
    assert found >= multiple
    nearest = min(range(multiple, 900, multiple), key=lambda each: (abs(each - side), -each))
    assert found == nearest
    assert fit_side(found, multiple) == found


@given(side=SIDES, multiple=st.sampled_from([14, 16, 32]), factor=st.floats(0.25, 2.0))
def test_a_scaled_side_is_a_multiple_near_it(side: int, multiple: int, factor: float) -> None:
    found = fit_side(side, multiple, factor)
    assert found % multiple == 0
    assert abs(found - side * factor) <= multiple / 2 or found == multiple


@given(side=st.integers(1, 4000), factor=st.floats(0.25, 2.0))
def test_without_a_multiple_a_scaled_side_is_a_multiple_of_8_plus_1(side: int, factor: float) -> None:
    found = fit_side(side, 1, factor)
    if factor == 1:
        assert found == side
    else:
        assert found % 8 == 1
        assert abs(found - side * factor) <= 4 or found == 9


@pytest.mark.parametrize(
    ("side", "factor", "expected"),
    [(513, 0.7, 361), (513, 1.5, 769), (769, 0.7, 537), (769, 1.5, 1153), (128, 1, 128), (128, 0.5, 65), (33, 0.1, 9)],
)
def test_scaled_views_of_maskmatch(side: int, factor: float, expected: int) -> None:
    assert fit_side(side, 1, factor) == expected


@pytest.mark.parametrize(
    ("side", "multiple", "expected"), [(500, 14, 504), (375, 14, 378), (360, 14, 364), (480, 14, 476), (801, 14, 798)]
)
def test_sides_that_unimatch_v2_evaluates_at(side: int, multiple: int, expected: int) -> None:
    assert fit_side(side, multiple) == expected


@given(height=st.integers(1, 60), width=st.integers(1, 60), multiple=MULTIPLES)
def test_an_image_is_resized_to_them(height: int, width: int, multiple: int) -> None:
    image = torch.rand(1, 3, height, width)
    found = fit_image(image, multiple)
    assert found.shape[2:] == (fit_side(height, multiple), fit_side(width, multiple))
    if found.shape == image.shape:
        assert found is image
    corners = (slice(None), slice(None), (0, 0, -1, -1), (0, -1, 0, -1))
    torch.testing.assert_close(found[corners], image[corners])
