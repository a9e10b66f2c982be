"""Sheets and the page: where tiles, captions and swatches are, and what a page needs."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from semiseg_cli.core.viz.legend import LINE, Legend
from semiseg_cli.core.viz.page import page
from semiseg_cli.core.viz.palette import PAPER, WRONG, heat
from semiseg_cli.core.viz.sheets import BOX, MARGIN, ROWS, Gallery, Row, fitted
from semiseg_cli.core.viz.tiles import Labels, Photo

COLOURS = np.array([[11, 120, 30], [200, 10, 250]], np.uint8)
GREEN = (77, 200, 5)  # of the photo


def gallery(rows: int = 1, **legend: object) -> Gallery:
    key = Legend(("sky", "<b>tree"), COLOURS, **legend)
    tiles = [Photo(np.full((60, 80, 3), GREEN, np.uint8)), Labels(np.ones((60, 80), np.uint8), COLOURS)]
    made = [Row(f"image {number}", tiles) for number in range(rows)]
    return Gallery("Title & more", "what is shown", ("image", "label"), made, key)


def has(sheet: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return (sheet == np.array(colour)).all(-1)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((96, 96), (192, 192)), ((128, 128), (256, 256)), ((60, 80), (180, 240)), ((375, 500), (216, 288)),
     ((1000, 100), (256, 26)), ((1, 5000), (1, 288)), ((321, 321), (256, 256)), ((200, 200), (256, 256))],
)  # fmt: skip
def test_tiles_fit_their_box_and_keep_their_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert fitted(shape) == size
    assert size[1] <= BOX[0]
    assert size[0] <= BOX[1]


def test_tiles_swatches_and_text_are_where_they_belong() -> None:
    (image,) = gallery().sheets()
    sheet = np.asarray(image)
    assert (sheet[0, 0] == PAPER).all()
    y, x = np.nonzero(has(sheet, GREEN))
    assert (y.max() - y.min() + 1, x.max() - x.min() + 1) == (180, 240)
    assert x.min() == MARGIN
    y2, x2 = np.nonzero(has(sheet, (200, 10, 250)))
    assert x2.max() == x.max() + 10 + 240  # second column
    assert y2.min() < y.min()  # its swatch is in the legend above
    swatch = has(sheet, (11, 120, 30))
    assert swatch.sum() == 14 * 14  # 16 px with an outline; the class is nowhere else
    dark = (sheet < 100).all(-1) & ~has(sheet, GREEN)
    assert dark[MARGIN : MARGIN + 24].any()  # title
    assert dark[y.min() - 24 : y.min(), x.min() : x.max()].any()  # column caption


def test_the_scale_and_the_colour_of_errors_are_in_the_legend_when_they_are_used() -> None:
    plain = np.asarray(gallery().sheets()[0])
    full = np.asarray(gallery(scale="confidence", wrong=True).sheets()[0])
    for colour in (WRONG, tuple(heat(np.array(1.0))), tuple(heat(np.array(0.0)))):
        assert has(full, colour).any()
        assert not has(plain, colour).any()


def test_rows_go_on_to_further_sheets_and_none_is_lost() -> None:
    sheets = gallery(ROWS + 2).sheets()
    assert len(sheets) == 2
    assert [int(has(np.asarray(sheet), GREEN).sum()) // (180 * 240) for sheet in sheets] == [ROWS, 2]


@pytest.mark.parametrize("classes", [21, 40, 150])
def test_a_legend_never_outgrows_the_pictures(classes: int) -> None:
    names = [f"class no. {number} " * (1 + 9 * (number == 3)) for number in range(classes)]
    colours = np.stack([np.arange(classes), np.full(classes, 7), np.full(classes, 99)], 1).astype(np.uint8)
    one = gallery()
    label = np.repeat(np.arange(60)[:, None] // 10 + classes - 6, 80, axis=1)  # the last six
    rows = [Row("image", [one.rows[0].tiles[0], Labels(label, colours)])]
    sheet = Gallery("t" * 500, "s", one.columns, rows, Legend(names, colours)).sheets()[0]
    drawn = np.asarray(sheet)
    assert sheet.width == one.sheets()[0].width
    top = np.nonzero(has(drawn, GREEN).any(1))[0][0]
    assert top - MARGIN < 2 * 180
    assert (drawn[:, -4:] == PAPER).all()  # nothing runs over the margin
    named = [has(drawn[:top], tuple(colour)).sum() == 14 * 14 for colour in colours]
    assert all(named[-6:])
    assert all(named) == (classes == 21)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_everything_and_needs_nothing() -> None:
    text = page([(gallery(), [b"first", b"second"])])
    found = Page(text)
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert [base64.b64decode(source.split(",")[1]) for source in found.sources] == [b"first", b"second"]
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert "&lt;b&gt;tree" in text
    assert "<b>" not in text
    assert "Title &amp; more" in text
    assert re.search(r"color-scheme:\s*light dark", text)
    assert "rgb(200, 10, 250)" in text


def test_the_colours_of_a_page_stand_once_where_they_are_the_same() -> None:
    one, other = gallery(), replace(gallery(), legend=Legend(("sky", "sea"), COLOURS))
    found = Page(page([(one, [b"first"]), (one, [b"second"]), (other, [b"third"])], "All"))
    lists_and_sheets = [tag for tag in found.tags if tag in ("ul", "img")]
    assert lists_and_sheets == ["ul", "ul", "img", "img", "ul", "img"]  # the first leads to the parts


def test_columns_without_a_name_take_no_line() -> None:
    named = gallery()
    bare = replace(named, columns=("",) * len(named.columns))
    assert named.sheets()[0].height - bare.sheets()[0].height == LINE
