"""How the masks of one kind (grey, palette, RGB) are read in a whole folder: by value, by colour, or by grey level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.sources.codes import COLOUR, TRANSPARENT, Code, code_name, colour_of, plain
from semiseg_cli.core.sources.rasters import COLOURS, PALETTE
from semiseg_cli.core.sources.remedies import PALETTE_FILE, class_name
from semiseg_cli.core.sources.survey import Pixel, Seen
from semiseg_cli.core.sources.told import NEAREST, Table

INDEX, COLOUR_ITSELF, LEVEL = "index", "colour", "level"  # what is read; LEVEL: of palettes that hold greys only


@dataclass(frozen=True)
class Reading:
    """How masks of one kind become codes. opaque: pixels less so are transparent.

    spare: the palette index that is ignored where its colour means nothing. known: the codes that mean something.
    """

    kind: str
    by: str
    opaque: int
    spare: Code | None
    known: NDArray[np.float64]

    def codes(
        self, value: NDArray[np.float64], colour: NDArray[np.float64], alpha: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """The codes of pixels by what they may be taken for, as in `survey.Pixel`."""
        if self.kind == PALETTE and self.by == INDEX:  # a palette's transparency is for display, as its colours are
            return value
        if self.by == LEVEL:
            return (colour - COLOUR) % 256
        first, second = (value, colour) if self.by == INDEX else (colour, value)
        code = np.where(np.isinf(first), second, first)
        if self.kind == PALETTE and self.spare is not None:
            code = np.where((value == self.spare) & ~np.isin(colour, self.known), value, code)
        return np.where(alpha < self.opaque, float(TRANSPARENT), code)

    def count(self, pixels: Mapping[Pixel, int]) -> Counter[Code]:
        """Pixels by code."""
        found = Counter[Code]()
        if pixels:
            value, colour, alpha = np.array(list(pixels), np.float64).T
            codes = self.codes(value, colour, alpha.astype(np.uint8))
            for code, count in zip(codes.tolist(), pixels.values(), strict=True):
                found[plain(code)] += count
        return found


def choose(kind: str, pixels: Mapping[Pixel, int], seen: Sequence[Seen], table: Table, opaque: int) -> Reading:
    """The reading of all masks of a kind. Raises DataError where two are possible and differ."""
    known = np.array(sorted(table.targets), np.float64)
    index, colour, level = (Reading(kind, by, opaque, table.ignored, known) for by in (INDEX, COLOUR_ITSELF, LEVEL))
    if table.told.reading:
        return index if table.told.reading == INDEX else colour
    if any(each.kind == kind and each.lossy for each in seen):
        return colour  # smeared, and so no index
    if kind == COLOURS:
        grey = all(pixel.value >= 0 for pixel in pixels)
        return index if grey and not table.has_colours else colour
    masks = [each for each in seen if each.kind == kind]
    by_index, by_colour = (_unknown(reading, pixels, table) for reading in (index, colour))
    if not table.has_colours:
        differing = next(_differing(masks), "") if kind == PALETTE else ""
        if differing and not all(_is_grey(pixel.colour) for pixel in pixels):
            _refuse_palettes(differing)
        return level if differing else index
    disagreeing = _disagreeing(pixels, table)
    if kind == PALETTE:
        if not by_colour or table.told.unknown == NEAREST:
            return colour if by_colour or by_index or disagreeing else index
        if disagreeing and not by_index:
            _refuse_both(disagreeing, masks, table)
        return colour if disagreeing or sum(by_colour.values()) < sum(by_index.values()) else index
    if by_index and by_colour:
        more = sum(by_colour.values()) < sum(by_index.values())
        return colour if more or table.told.unknown == NEAREST else index
    if by_index or by_colour:
        return colour if by_index else index
    if table.assumed and any(pixel.value == table.ignored and pixel.colour in table.targets for pixel in pixels):
        return colour  # that 255 counts nowhere is no proof of anything
    if disagreeing:
        _refuse_both(disagreeing, masks, table)
    return index


def _unknown(reading: Reading, pixels: Mapping[Pixel, int], table: Table) -> Counter[Code]:
    """Pixels of the codes that mean nothing by a reading."""
    found = reading.count(pixels)
    return Counter({code: n for code, n in found.items() if code not in table.targets and code != TRANSPARENT})


def _disagreeing(pixels: Iterable[Pixel], table: Table) -> list[Pixel]:
    """Pixels whose value is one class and whose colour is another."""
    targets = table.targets
    both = [pixel for pixel in pixels if pixel.value in targets and pixel.colour in targets]
    return sorted(pixel for pixel in both if targets[pixel.value] != targets[pixel.colour])


def _differing(masks: Sequence[Seen]) -> Iterator[str]:
    """Where an index has another colour in another mask, or a colour another index, told in words."""
    colours, indices = dict[Code, tuple[Code, Seen]](), dict[Code, tuple[Code, Seen]]()
    for mask in masks:
        once = {colour for colour, n in Counter(pixel.colour for pixel in mask.pixels).items() if n == 1}
        for pixel in mask.pixels:
            before, where = colours.setdefault(pixel.value, (pixel.colour, mask))
            if before != pixel.colour:
                one, other = code_name(before), code_name(pixel.colour)
                yield f"index {code_name(pixel.value)} is {one} in {where.path} and {other} in {mask.path}"
            if pixel.colour in once:
                before, where = indices.setdefault(pixel.colour, (pixel.value, mask))
                if before != pixel.value:
                    one, other = code_name(before), code_name(pixel.value)
                    yield f"{code_name(pixel.colour)} is index {one} in {where.path} and {other} in {mask.path}"


def _is_grey(code: Code) -> bool:
    return len({*(colour_of(code) or (0, 1))}) == 1


def _refuse_palettes(differing: str) -> None:
    fix = f"{PALETTE_FILE}; or --mask-reading index, if the colours are for display alone"
    raise DataError("the palettes of the masks differ, so that no index means one thing", why=differing, fix=fix)


def _refuse_both(pixels: Sequence[Pixel], masks: Sequence[Seen], table: Table) -> None:
    pixel = pixels[0]
    count = sum(mask.pixels.get(pixel, 0) for mask in masks)
    where = next(mask.path for mask in masks if pixel in mask.pixels)
    one, other = (class_name(table.targets[code], table.classes) for code in (pixel.value, pixel.colour))
    raise DataError(
        f"{counted(len(masks), 'mask')} can be read by value and by colour, which gives different classes",
        why=f"{counted(count, 'pixel')}, the first in {where}: {one} by their value {code_name(pixel.value)}, "
        f"and {other} by their colour {code_name(pixel.colour)}",
        fix="--mask-reading colour, or --mask-reading index",
    )
