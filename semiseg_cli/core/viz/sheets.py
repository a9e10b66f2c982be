"""Contact sheets: rows of tiles under column captions, with a title and a legend, as one image each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from semiseg_cli.core.viz.fonts import lacks, wrapped, write
from semiseg_cli.core.viz.legend import LINE, Legend, drawn
from semiseg_cli.core.viz.palette import FAINT, INK, PAPER
from semiseg_cli.core.viz.tiles import Tile

BOX = (288, 256)  # width and height that a tile is fitted into, in pixels: crops of 96 and 128 px twice as large
GAP, MARGIN = 10, 20
NARROWEST = 560  # of a sheet, so that its title has room
ROWS = 6  # per sheet: what a screen shows without scrolling far
LEAST = 3  # lines of a legend beside however small pictures
LACKING = "?: letters that no font on this machine has; classes are named by their number. The HTML page has all names."


@dataclass(frozen=True)
class Row:
    """One image: a caption, and a tile for every column."""

    caption: str
    tiles: Sequence[Tile]


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
        inside = max(NARROWEST, 2 * MARGIN + sum(widths) + GAP * (len(widths) - 1)) - 2 * MARGIN
        said = wrapped(self.subtitle, 14, inside)
        lacking = any(map(lacks, [self.title, *self.columns, *self.legend.classes, *(row.caption for row in rows)]))
        said += wrapped(LACKING, 14, inside) * lacking
        lines = max(LEAST, sum(heights) // LINE)
        key = drawn(self.legend, inside, lines, [tile for row in rows for tile in row.tiles])
        top = MARGIN + 32 + 20 * len(said) + 8
        heading = LINE * any(self.columns)
        height = top + key.height + 12 + heading + sum(h + LINE + GAP for h in heights) + MARGIN - GAP
        sheet = Image.new("RGB", (inside + 2 * MARGIN, height), PAPER)
        pen = ImageDraw.Draw(sheet)
        write(pen, (MARGIN, MARGIN), self.title, 22, INK, inside)
        for number, line in enumerate(said):
            write(pen, (MARGIN, MARGIN + 32 + 20 * number), line, 14, FAINT, inside)
        sheet.paste(key, (MARGIN, top))
        y = top + key.height + 12
        lefts = [MARGIN + sum(widths[:i]) + GAP * i for i in range(len(widths))]
        for left, name, across in zip(lefts, self.columns, widths, strict=True):
            write(pen, (left, y), name, 16, INK, across)
        y += heading
        for row, row_sizes, row_height in zip(rows, sizes, heights, strict=True):
            for left, tile, size in zip(lefts, row.tiles, row_sizes, strict=True):
                sheet.paste(Image.fromarray(tile.draw(*size)), (left, y))
            write(pen, (MARGIN, y + row_height + 2), row.caption, 14, FAINT, inside)
            y += row_height + LINE + GAP
        return sheet


def fitted(shape: tuple[int, int], box: tuple[int, int] = BOX) -> tuple[int, int]:
    """Height and width of a tile: its shape scaled into the box, by a whole factor if it is small (even pixels)."""
    factor = min(box[0] / shape[1], box[1] / shape[0])
    factor = float(int(factor)) if factor >= 2 else factor
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))
