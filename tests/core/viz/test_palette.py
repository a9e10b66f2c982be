"""Colours of classes, heat and the pattern of no label."""

from __future__ import annotations

import numpy as np
import pytest

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.viz.palette import CHECKS, checks, class_colours, heat


def test_a_palette_may_be_longer_than_the_classes_but_not_shorter() -> None:
    palette = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert class_colours(palette, ("a", "b"), "x").tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(DataError, match="the palette of dataset park has 3 colours for 5 classes") as caught:
        class_colours(palette, ("a", "b", "c", "d", "e"), "dataset park")
    assert caught.value.why == "no colour for: d, e"
    assert "dataset.toml" in caught.value.fix


def test_heat_is_viridis_and_gets_steadily_brighter() -> None:
    ramp = heat(np.linspace(0, 1, 256))
    assert ramp[0].tolist() == pytest.approx([68, 1, 84], abs=2)  # published ends and middle of the map
    assert ramp[128].tolist() == pytest.approx([33, 145, 140], abs=3)
    assert ramp[255].tolist() == pytest.approx([253, 231, 37], abs=2)
    luma = ramp @ [0.299, 0.587, 0.114]
    assert (np.diff(luma[::8]) > 0).all()


def test_heat_clips() -> None:
    assert (heat(np.array([-1.0, 2.0])) == heat(np.array([0.0, 1.0]))).all()


def test_checks_alternate_every_side() -> None:
    pattern = checks(8, 12, side=4)
    assert pattern.shape == (8, 12, 3)
    assert tuple(pattern[0, 0]) == tuple(pattern[3, 3]) == tuple(pattern[4, 4]) == CHECKS[0]
    assert tuple(pattern[0, 4]) == tuple(pattern[4, 0]) == CHECKS[1]
