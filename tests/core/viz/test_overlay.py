"""Overlays: the photo's light stays, the classes' hue is there, outlines have their colour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semiseg_cli.core.viz.overlay import ROWS, tinted

COLOURS = np.array([[40, 40, 40], [195, 45, 0], [0, 180, 135], [255, 225, 0]], np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    """As OpenCV has it."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int)


@pytest.mark.parametrize("k", range(4))
def test_light_is_the_photos_and_hue_the_classes(k: int) -> None:
    rgb = np.random.default_rng(k).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    drawn = tinted(rgb, np.full((60, 70), k), COLOURS)
    assert np.abs(luma(drawn) - luma(rgb)).max() <= 2
    middle = (luma(rgb) > 100) & (luma(rgb) < 150)
    shown = drawn[middle].mean(0) - drawn[middle].mean()
    own = COLOURS[k] - COLOURS[k].mean()
    if own.any():
        assert shown @ own / np.linalg.norm(shown) / np.linalg.norm(own) > 0.95
    else:
        assert drawn[middle].std(1).mean() < rgb[middle].std(1).mean() / 3  # grey


def test_what_is_no_class_is_the_photo() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert (tinted(rgb, np.full((40, 40), 255, np.uint8), COLOURS) == rgb).all()


def test_outlines_have_the_colour_of_their_class() -> None:
    rgb, label = np.zeros((50, 60, 3), np.uint8), np.ones((50, 60), np.uint8)
    label[:, 30:] = 2
    drawn = tinted(rgb, label, COLOURS)
    assert (drawn[:, 29] == COLOURS[1]).all()
    assert (drawn[:, 30] == COLOURS[2]).all()
    assert not drawn[:, :28].any()  # a photo that is black stays so: that is its light
    assert not drawn[:, 32:].any()


def test_large_photos_have_no_seams() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (ROWS + 40, 20, 3), dtype=np.uint8)
    label = np.full(rgb.shape[:2], 1)
    assert (tinted(rgb, label, COLOURS)[ROWS - 5 :] == tinted(rgb[ROWS - 5 :], label[ROWS - 5 :], COLOURS)).all()
