"""Tiles: colours at known pixels, at their own size and at others."""

from __future__ import annotations

import numpy as np
import pytest

from semiseg_cli.core.viz.palette import WRONG, checks, heat
from semiseg_cli.core.viz.tiles import Errors, Heat, Labels, Photo

COLOURS = np.array([[10, 20, 30], [200, 100, 50]], np.uint8)
LABEL = np.array([[0, 1], [1, 255]], np.uint8)


def test_a_photo_is_itself_at_its_own_size_and_shows_its_padding() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    assert (Photo(rgb).draw(8, 12) == rgb).all()
    valid = np.ones((8, 12), bool)
    valid[6:] = False
    drawn = Photo(rgb, valid).draw(8, 12)
    assert (drawn[:6] == rgb[:6]).all()
    assert (drawn[6:] == checks(8, 12)[6:]).all()


def test_a_photo_enlarged_by_a_whole_factor_keeps_its_pixels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    assert (Photo(rgb).draw(15, 12) == rgb.repeat(3, 0).repeat(3, 1)).all()


def test_a_photo_that_shrinks_is_averaged() -> None:
    rgb = np.tile(np.array([[[0], [100]]], np.uint8), (2, 4, 3))
    assert (Photo(rgb).draw(1, 4) == 50).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_in_their_colours_and_no_label_as_squares(dtype: type) -> None:
    drawn = Labels(LABEL.astype(dtype), COLOURS).draw(24, 24)
    assert drawn.shape == (24, 24, 3)
    assert (drawn[:12, :12] == COLOURS[0]).all()
    assert (drawn[:12, 12:] == COLOURS[1]).all()
    assert (drawn[12:, :12] == COLOURS[1]).all()
    assert (drawn[12:, 12:] == checks(24, 24)[12:, 12:]).all()


@pytest.mark.parametrize("size", [(7, 5), (40, 31), (100, 3)])
def test_labels_never_get_a_colour_in_between(size: tuple[int, int]) -> None:
    label = np.random.default_rng(1).integers(0, 2, (16, 16))
    drawn = Labels(label, COLOURS).draw(*size)
    assert {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()} == {tuple(colour) for colour in COLOURS.tolist()}


def test_weights_fade_labels_into_the_squares() -> None:
    weight = np.array([[1.0, 0.5], [0.0, 1.0]])
    drawn = Labels(LABEL, COLOURS, weight).draw(2, 2).astype(float)
    white = checks(2, 2).astype(float)
    assert (drawn[0, 0] == COLOURS[0]).all()
    assert drawn[0, 1] == pytest.approx((COLOURS[1] + white[0, 1]) / 2, abs=0.5)
    assert (drawn[1, 0] == white[1, 0]).all()
    assert (drawn[1, 1] == white[1, 1]).all()  # kept, but no class


def test_heat_maps_values_and_leaves_padding_out() -> None:
    values, valid = np.array([[0.0, 0.25], [0.75, 1.0]]), np.array([[True, True], [True, False]])
    drawn = Heat(values, valid).draw(2, 2)
    for y, x in ((0, 0), (0, 1), (1, 0)):
        assert (drawn[y, x] == heat(values)[y, x]).all()
    assert (drawn[1, 1] == checks(2, 2)[1, 1]).all()


def test_errors_are_marked_right_pixels_are_grey_the_ignored_are_squares() -> None:
    rgb = np.full((4, 4, 3), (200, 30, 90), np.uint8)
    wrong, counted = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    wrong[0, 0], counted[3, 3] = True, False
    drawn = Errors(rgb, wrong, counted).draw(4, 4)
    assert tuple(drawn[0, 0]) == WRONG
    assert len(set(drawn[1, 1].tolist())) == 1  # grey
    assert (drawn[3, 3] == checks(4, 4)[3, 3]).all()
