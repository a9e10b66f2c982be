"""The legend of a sheet: swatches with names in columns, in no more lines than it is given."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from semiseg_cli.core.viz.fonts import lacks, width_of, write
from semiseg_cli.core.viz.palette import FAINT, INK, PAPER, WRONG, Array, checks, heat
from semiseg_cli.core.viz.scatter import Scatter
from semiseg_cli.core.viz.tiles import Labels, Tile

LINE, SWATCH, LETTERS = 24, 16, 14  # pixels: of a line, a swatch's side, the height of letters
SPACE = 18  # between columns
NARROWEST = 96  # of a column, where there are too many names for wider ones


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


class Entry(NamedTuple):
    picture: Image.Image
    name: str

    @property
    def width(self) -> int:
        return SWATCH + 6 + math.ceil(width_of(self.name, LETTERS)) + SPACE


def drawn(legend: Legend, width: int, lines: int, tiles: Sequence[Tile] = ()) -> Image.Image:
    """An image `width` pixels wide, of at most `lines` lines.

    Where the names of all classes have no room there, those that the tiles show are named, and how many others there
    are; names are cut where these have no room, and those that least is shown of left out where that is not enough.
    """
    lines = max(lines - bool(legend.scale), 1)
    classes = [Entry(_swatch(colour), name) for name, colour in zip(names(legend), legend.colours, strict=True)]
    others = [Entry(Image.fromarray(checks(SWATCH, SWATCH, 4)), legend.unlabeled)] * bool(legend.unlabeled)
    others += [Entry(Image.new("RGB", (SWATCH, SWATCH), WRONG), "wrong")] * legend.wrong
    entries = [*classes, *others]
    columns = _columns(entries, width, lines)
    if not columns:
        sizes = _sizes(tiles, len(classes))
        shown = sorted((k for k in range(len(classes)) if sizes[k]), key=lambda k: -sizes[k])
        while True:
            left = [Entry(_swatch(PAPER), f"{len(classes) - len(shown)} others")] * (len(shown) < len(classes))
            entries = [*(classes[k] for k in sorted(shown)), *left, *others]
            columns = _columns(entries, width, lines) or _columns(entries, width, lines, NARROWEST)
            if columns or not shown:
                break
            shown.pop()
    return _put(entries, legend.scale, width, max(1, columns))


def as_png(legend: Legend, elsewhere: str, width: int = 560) -> bytes:
    """A legend alone, with all classes, as a PNG file. elsewhere: where the names are that cannot be written here."""
    key = drawn(legend, width, len(legend.classes) + 1)
    lacking = any(map(lacks, legend.classes))
    image = Image.new("RGB", (width + 2 * SPACE, key.height + 2 * SPACE + LINE * lacking), PAPER)
    image.paste(key, (SPACE, SPACE))
    if lacking:
        at = SPACE, SPACE + key.height
        write(ImageDraw.Draw(image), at, f"names that no font here has: {elsewhere}", LETTERS, FAINT, width)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def names(legend: Legend) -> list[str]:
    """Those of the classes; of one that no font here can write its number."""
    return [f"class {k}" if lacks(name) else name for k, name in enumerate(legend.classes)]


def _columns(entries: Sequence[Entry], width: int, lines: int, narrowest: int = 0) -> int:
    """How many, so that the entries need no more lines; 0 where that cannot be.

    They are as wide as the widest name, or else the widest but for one in ten, in half of the lines; in all of them
    they are a third of the width, where names are wider than that. narrowest: narrower than that, if need be.
    """
    wide, third = sorted(entry.width for entry in entries) or [1], max(width // 3, NARROWEST)
    usual = wide[-(-9 * (len(wide) - 1) // 10)]
    for most, room in ((wide[-1], (lines + 1) // 2), (usual, (lines + 1) // 2), (min(usual, third), lines)):
        columns = max(1, width // most)
        if -(-len(entries) // columns) <= room:
            return columns
    needed = -(-len(entries) // lines)
    return needed if narrowest and needed * narrowest <= width else 0


def _sizes(tiles: Sequence[Tile], classes: int) -> np.ndarray[Any, Any]:
    """Pixels of every class in the label maps, points in the plots."""
    labels = [tile.label.ravel() for tile in tiles if isinstance(tile, Labels | Scatter)]
    every = np.concatenate([np.empty(0, np.int64), *labels])
    return np.bincount(every[(every >= 0) & (every < classes)].astype(np.int64), minlength=classes)


def _put(entries: Sequence[Entry], scale: str, width: int, columns: int) -> Image.Image:
    """Entries down one column after the other; a heat map's scale in a line of its own."""
    lines, across = -(-len(entries) // columns), width // columns
    image = Image.new("RGB", (width, max(1, lines + bool(scale)) * LINE), PAPER)
    pen = ImageDraw.Draw(image)
    for number, (picture, name) in enumerate(entries):
        x, y = number // lines * across, number % lines * LINE
        image.paste(picture, (x, y + 2))
        write(pen, (x + SWATCH + 6, y + 1), name, LETTERS, INK, across - SWATCH - 6 - SPACE // 2)
    if scale:
        ramp = _ramp()
        image.paste(ramp, (0, lines * LINE + 2))
        write(pen, (ramp.width + 6, lines * LINE + 1), scale, LETTERS, INK, width - ramp.width - 6)
    return image


def _swatch(colour: Any) -> Image.Image:
    red, green, blue = (int(level) for level in colour)
    picture = Image.new("RGB", (SWATCH, SWATCH), (red, green, blue))
    if (red, green, blue) != PAPER:
        ImageDraw.Draw(picture).rectangle((0, 0, SWATCH - 1, SWATCH - 1), outline=FAINT)
    return picture


def _ramp() -> Image.Image:
    """The heat map's colours from 0 to 1, with its ends named."""
    ramp = Image.new("RGB", (170, SWATCH + 4), PAPER)
    ramp.paste(Image.fromarray(np.repeat(heat(np.linspace(0, 1, 130))[None], SWATCH, axis=0)), (16, 0))
    pen = ImageDraw.Draw(ramp)
    write(pen, (2, -1), "0", LETTERS, INK, 14)
    write(pen, (152, -1), "1", LETTERS, INK, 14)
    return ramp
