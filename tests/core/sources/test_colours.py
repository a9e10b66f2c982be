"""Colours of classes: as far apart as is stated, also for eyes without red or without green cones."""

from __future__ import annotations

import numpy as np
import pytest

from semiseg_cli.core.sources import shapes, voc
from semiseg_cli.core.sources.colours import CHOSEN, as_seen, distinct

# XYZ (D65) of linear sRGB, IEC 61966-2-1
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Vienot, Brettel and Mollon 1999 in linear RGB: another model of the same eyes than the one that chose the colours
VIENOT = {
    "protanopia": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deuteranopia": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB by its definition."""
    ratio = linear @ XYZ.T / XYZ.sum(1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def linear(colours: object) -> np.ndarray:
    level = np.array(colours) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def least(lab_N3: np.ndarray) -> float:
    apart = np.linalg.norm(lab_N3[:, None] - lab_N3[None], axis=-1)
    return float(apart[np.triu_indices(len(lab_N3), 1)].min())


def test_lab_is_that_of_its_definition() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (50, 3))
    assert as_seen(colours)[0] == pytest.approx(lab(linear(colours)), abs=0.3)


@pytest.mark.parametrize(
    ("classes", "apart", "blind"), [(2, 84, 46), (6, 66, 26), (10, 32, 16), (12, 32, 16), (16, 22, 15), (20, 21, 15)]
)
def test_colours_are_as_far_apart_as_is_stated(classes: int, apart: float, blind: float) -> None:
    colours = distinct(classes)
    assert colours == CHOSEN[:classes]
    normal, *without = (least(each) for each in as_seen(np.array(colours)))
    assert normal >= apart
    assert min(without) >= blind


@pytest.mark.parametrize("eyes", VIENOT)
def test_another_model_of_these_eyes_tells_them_apart_too(eyes: str) -> None:
    seen = (linear(CHOSEN) @ np.array(VIENOT[eyes]).T).clip(0, 1)
    assert least(lab(seen)) >= 9
    before = (linear(voc.colour_map(20)) @ np.array(VIENOT[eyes]).T).clip(0, 1)
    assert least(lab(before)) < 3


def test_a_mask_has_room_for_as_many() -> None:
    every = distinct(255)
    assert len(set(every)) == 255
    assert every[:21] == distinct(21)


def test_the_demo_has_the_same_ones() -> None:
    assert distinct(6) == shapes.PALETTE


def test_pascals_colour_map_is_pascals() -> None:
    assert voc.colour_map(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert voc.colour_map(21)[20] == (0, 64, 128)
