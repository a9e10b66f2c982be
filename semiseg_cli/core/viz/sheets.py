"""Contact sheets: rows of tiles under column captions, with a title and a legend, as one image each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semiseg_cli.core.viz.palette import FAINT, INK, PAPER, WRONG, Array, checks, heat
from semiseg_cli.core.viz.tiles import Tile

BOX = (288, 256)  # width and height that a tile is fitted into, in pixels: crops of 96 and 128 px twice as large
GAP, MARGIN, LINE, SWATCH = 10, 20, 24, 16
NARROWEST = 560  # of a sheet, so that its title has room
ROWS = 6  # per sheet: what a screen shows without scrolling far


@dataclass(frozen=True)
class Row:
    """One image: a caption, and a tile for every column."""

    caption: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Legend:
    """What the colours mean. unlabeled: what it means to have none of them; empty where every place has one.

    scale: the name of the values that a heat map shows. wrong: error maps are shown.
    """

    classes: Sequence[str]
    colours: Array
    unlabeled: str = "no label"
    scale: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Gallery:
    """A set of pictures: title, one line on what is shown, column captions, rows, legend. At least one row.

    box: what every tile is fitted into.
    """

    title: str
    subtitle: str
    columns: Sequence[str]
    rows: Sequence[Row]
    legend: Legend
    box: tuple[int, int] = BOX

    def sheets(self) -> list[Image.Image]:
        """RGB images of up to ROWS rows each."""
        return [self._sheet(self.rows[i : i + ROWS]) for i in range(0, len(self.rows), ROWS)]

    def _sheet(self, rows: Sequence[Row]) -> Image.Image:
        sizes = [[fitted(tile.shape, self.box) for tile in row.tiles] for row in rows]
        widths = [max(size[1] for size in column) for column in zip(*sizes, strict=True)]
        heights = [max(size[0] for size in row) for row in sizes]
        width = max(NARROWEST, 2 * MARGIN + sum(widths) + GAP * (len(widths) - 1))
        key = _legend(self.legend, width - 2 * MARGIN)
        top = MARGIN + 32 + LINE + 8
        height = top + key.height + 12 + LINE + sum(h + LINE + GAP for h in heights) + MARGIN - GAP
        sheet = Image.new("RGB", (width, height), PAPER)
        pen = ImageDraw.Draw(sheet)
        _text(pen, (MARGIN, MARGIN), self.title, 22, INK, width - 2 * MARGIN)
        _text(pen, (MARGIN, MARGIN + 32), self.subtitle, 14, FAINT, width - 2 * MARGIN)
        sheet.paste(key, (MARGIN, top))
        y = top + key.height + 12
        lefts = [MARGIN + sum(widths[:i]) + GAP * i for i in range(len(widths))]
        for left, name, across in zip(lefts, self.columns, widths, strict=True):
            _text(pen, (left, y), name, 16, INK, across)
        y += LINE
        for row, row_sizes, row_height in zip(rows, sizes, heights, strict=True):
            for left, tile, size in zip(lefts, row.tiles, row_sizes, strict=True):
                sheet.paste(Image.fromarray(tile.draw(*size)), (left, y))
            _text(pen, (MARGIN, y + row_height + 2), row.caption, 14, FAINT, width - 2 * MARGIN)
            y += row_height + LINE + GAP
        return sheet


def fitted(shape: tuple[int, int], box: tuple[int, int] = BOX) -> tuple[int, int]:
    """Height and width of a tile: its shape scaled into the box, by a whole factor if it is small (even pixels)."""
    factor = min(box[0] / shape[1], box[1] / shape[0])
    factor = float(int(factor)) if factor >= 2 else factor
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _legend(legend: Legend, width: int) -> Image.Image:
    """Swatches with names, as many to a line as fit; then, if there is a heat map, its scale."""
    swatch = (SWATCH, SWATCH)
    entries = [
        (Image.new("RGB", swatch, tuple(colour)), name)
        for name, colour in zip(legend.classes, legend.colours.tolist(), strict=True)
    ]
    if legend.unlabeled:
        entries.append((Image.fromarray(checks(SWATCH, SWATCH, 4)), legend.unlabeled))
    if legend.wrong:
        entries.append((Image.new("RGB", swatch, WRONG), "wrong"))
    if legend.scale:
        entries.append((_ramp(), legend.scale))
    font = ImageFont.load_default(14)
    places, x, line = [], 0, 0
    for picture, name in entries:
        across = picture.width + 6 + int(font.getlength(name)) + 18
        if x and x + across > width:
            x, line = 0, line + 1
        places.append((x, line * LINE))
        x += across
    drawn = Image.new("RGB", (width, (line + 1) * LINE), PAPER)
    pen = ImageDraw.Draw(drawn)
    for (x, y), (picture, name) in zip(places, entries, strict=True):
        drawn.paste(picture, (x, y + 2))
        if picture.width == SWATCH:
            pen.rectangle((x, y + 2, x + SWATCH - 1, y + 1 + SWATCH), outline=FAINT)
        _text(pen, (x + picture.width + 6, y + 1), name, 14, INK, width - x - picture.width - 6)
    return drawn


def _ramp() -> Image.Image:
    """The heat map's colours from 0 to 1, with its ends named."""
    font = ImageFont.load_default(14)
    ramp = Image.new("RGB", (170, SWATCH + 4), PAPER)
    ramp.paste(Image.fromarray(np.repeat(heat(np.linspace(0, 1, 130))[None], SWATCH, axis=0)), (16, 0))
    pen = ImageDraw.Draw(ramp)
    pen.text((2, -1), "0", INK, font)
    pen.text((152, -1), "1", INK, font)
    return ramp


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int
) -> None:
    """Text in one line; what is wider than `width` is cut in its middle."""
    font = ImageFont.load_default(size)
    shown = text
    for count in range(len(text), 3, -1):
        shown = text if count == len(text) else f"{text[: count // 2]}...{text[len(text) - count // 2 :]}"
        if font.getlength(shown) <= width:
            break
    pen.text(at, shown, colour, font)
