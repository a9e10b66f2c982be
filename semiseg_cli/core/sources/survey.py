"""What the masks of a folder hold, all of them, before anything is decided about any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.codes import Code, plain
from semiseg_cli.core.sources.rasters import COLOURS, GREY, PALETTE, read_raster

MOST = 1 << 16  # kinds of pixels in one mask; more are those of a photo


class Pixel(NamedTuple):
    """What a pixel may be taken for: its value (of a palette PNG the index), its colour, and how opaque it is.

    Value and colour are codes, -inf where there is none.
    """

    value: Code
    colour: Code
    alpha: int


@dataclass(frozen=True)
class Seen:
    """What one mask holds. shape: (height, width) as stored; exif: the orientation it gives itself; lossy: smeared."""

    path: Path
    kind: str  # as in `rasters`
    pixels: dict[Pixel, int]
    shape: tuple[int, int]
    exif: int = 1
    lossy: bool = False


def look(path: Path, lossy: bool = False) -> Seen:
    """Read a mask, as `read_raster` does, and count its pixels by what they hold. DataError for what is no mask."""
    raster = read_raster(path, lossy)
    found, counts = tally(raster.pixels)
    if len(found) > MOST:
        raise DataError(f"{path} has {len(found):,} different pixels: a photo or a measurement, and no mask")
    columns = (raster.values(found), raster.colours(found), raster.alpha(found))
    pixels = Counter[Pixel]()
    for value, colour, alpha, count in zip(*(column.tolist() for column in columns), counts.tolist(), strict=True):
        pixels[Pixel(plain(value), plain(colour), alpha)] += count
    height, width = raster.pixels.shape
    return Seen(path, raster.kind, dict(pixels), (height, width), raster.exif, raster.lossy)


def tally(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different pixels, sorted, and how many there are of each: run by run, since masks are made of few runs."""
    flat = pixels.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    values, place = np.unique(flat[starts], return_inverse=True)
    return values, np.bincount(place, weights=np.diff(starts, append=flat.size)).astype(np.int64)


def together(seen: Iterable[Seen]) -> dict[str, Counter[Pixel]]:
    """Pixels of all masks by the kind of the mask, in one order."""
    found = {kind: Counter[Pixel]() for kind in (COLOURS, PALETTE, GREY)}
    for each in seen:
        found[each.kind].update(each.pixels)
    return {kind: pixels for kind, pixels in found.items() if pixels}
