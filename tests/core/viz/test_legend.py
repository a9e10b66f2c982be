"""Legends: columns, what is left out where there is no room, names that no font has."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.viz import fonts
from semiseg_cli.core.viz.fonts import width_of
from semiseg_cli.core.viz.legend import LETTERS, LINE, SWATCH, Legend, drawn, names
from semiseg_cli.core.viz.palette import PAPER
from semiseg_cli.core.viz.tiles import Labels

COLOURS = np.stack([np.arange(1, 31), np.full(30, 7), np.full(30, 99)], 1).astype(np.uint8)


def places(image: Image.Image) -> dict[int, tuple[int, int]]:
    """Left and top of every class's swatch."""
    pixels, found = np.asarray(image), dict[int, tuple[int, int]]()
    for k, colour in enumerate(COLOURS.tolist()):
        y, x = np.nonzero((pixels == colour).all(-1))
        if len(x):
            found[k] = int(x.min()) - 1, int(y.min()) - 1
    return found


def test_entries_stand_in_columns_one_below_the_other() -> None:
    image = drawn(Legend([f"class {k}" for k in range(8)], COLOURS[:8], ""), 400, 10)
    at = places(image)
    lefts = sorted({x for x, _ in at.values()})
    assert len(lefts) == 4
    assert np.ptp(np.diff(lefts)) == 0
    assert [at[k][0] == at[k + 1][0] for k in range(7)] == [True, False] * 3 + [True]
    assert image.height == 2 * LINE


@pytest.mark.parametrize("lines", [1, 3, 6])
def test_no_more_lines_than_there_are(lines: int) -> None:
    label = np.repeat([28, 3, 3, 3], 5).reshape(4, 5)
    legend = Legend([f"a name of some length {k}" for k in range(30)], COLOURS, "no label", "confidence", wrong=True)
    image = drawn(legend, 420, lines + 1, [Labels(label, COLOURS)])
    assert image.height <= (lines + 1) * LINE
    assert set(places(image)) == ({3} if lines == 1 else {3, 28})


def test_a_long_name_is_whole_where_lines_are_left() -> None:
    name = "pedestrian crossing the street with an umbrella in heavy rain"
    legend = Legend(["road", name], COLOURS[:2], "")
    roomy, cramped = (np.asarray(drawn(legend, 720, lines)) for lines in (3, 1))
    ends = [int(np.nonzero((image != PAPER).any((0, 2)))[0].max()) for image in (roomy, cramped)]
    assert ends[0] == pytest.approx(SWATCH + 6 + width_of(name, LETTERS), abs=3)
    assert ends[1] > ends[0]
    assert places(Image.fromarray(roomy)) == {0: (0, 2), 1: (0, 2 + LINE)}


def test_nothing_to_name_is_an_empty_line() -> None:
    assert (np.asarray(drawn(Legend((), np.zeros((0, 3), np.uint8), ""), 300, 5)) == PAPER).all()


def test_a_class_that_no_font_can_write_goes_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    legend = Legend(("sky", "\U00012000\U00012001"), COLOURS[:2])
    monkeypatch.setattr(fonts, "_files", lambda: (fonts.OWN,))
    fonts._parts.cache_clear()
    try:
        assert names(legend) == ["sky", "class 1"]
    finally:
        fonts._parts.cache_clear()
