"""Codes: whatever a pixel of a mask can hold, as one number, and what each of them stands for.

A value is its own code, fractions and negative ones included; a colour, a transparent pixel and "not a number" lie
above all values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.spec import IGNORE

Colour = tuple[int, int, int]
Code = float  # whole numbers are mostly ints
COLOUR = 1 << 40  # plus 0xRRGGBB
TRANSPARENT = 1 << 41
NOT_A_NUMBER = 1 << 42
WORDS = {"transparent": TRANSPARENT, "nan": NOT_A_NUMBER}
_RANGE = re.compile(r"(-?\d+)-(-?\d+)")
_MOST = 1 << 16  # codes of one range


@dataclass(frozen=True)
class LabelMap:
    """From codes to class indices, or `IGNORE`. `known` is sorted."""

    known: NDArray[np.float64]
    value: NDArray[np.uint8]
    classes: int

    def __call__(self, codes: NDArray[Any]) -> tuple[NDArray[np.uint8], dict[Code, int]]:
        """The mask, uint8 of the shape of `codes`, and pixels of every code that means nothing."""
        if codes.dtype == np.uint8:
            return self._bytes(codes)
        place = np.searchsorted(self.known, codes).clip(max=len(self.known) - 1)
        strange = self.known[place] != codes
        if not strange.any():
            return self.value[place], {}
        found, counts = np.unique(codes[strange], return_counts=True)
        return self.value[place], {plain(code): n for code, n in zip(found.tolist(), counts.tolist(), strict=True)}

    def _bytes(self, codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], dict[Code, int]]:
        """The same by a table: a search takes ten times as long."""
        table, none = self(np.arange(256, dtype=np.int64))
        counts = np.bincount(codes.ravel(), minlength=256)
        return table[codes], {code: int(counts[int(code)]) for code in none if counts[int(code)]}


def declared(values: Mapping[int, int] | Mapping[Code, int], classes: int) -> LabelMap:
    """The label map of these codes and no others. values: code -> class, or anything else for none."""
    rows = sorted(values.items())
    known = [code for code, _ in rows]
    targets = [target if target in range(classes) else IGNORE for _, target in rows]
    return LabelMap(np.array(known, np.float64), np.array(targets, np.uint8), classes)


def saved_as_colour(values: Mapping[int, int]) -> dict[Code, int]:
    """These values, and the grey colours that they become where an index mask is saved as RGB."""
    greys = {colour_code((value, value, value)): target for value, target in values.items() if value in range(256)}
    return dict[Code, int](values.items()) | dict[Code, int](greys.items())


def colour_code(colour: Colour) -> int:
    """The code of a mask pixel of this colour."""
    red, green, blue = colour
    return COLOUR | red << 16 | green << 8 | blue


def colour_of(code: Code) -> Colour | None:
    """The colour of a code; None where it is none."""
    if not COLOUR <= code < COLOUR + (1 << 24):
        return None
    level = int(code)
    return level >> 16 & 255, level >> 8 & 255, level & 255


def plain(code: Code) -> Code:
    """A code as an int where it is whole and exact."""
    return int(code) if abs(code) < 1 << 53 and code == int(code) else code


def code_name(code: Code) -> str:
    """A code as people write it: `7`, `#804000`, `transparent`, `nan`, `-3.4028235e+38`."""
    if words := [word for word, known in WORDS.items() if known == code]:
        return words[0]
    if colour_of(code) is not None:
        return f"#{int(code) & 0xFFFFFF:06x}"
    return str(code) if isinstance(code, int) else str(np.float32(code))


def parse_codes(words: str) -> Iterable[Code]:
    """The codes of `7`, `4-25`, `#804000`, `0.5`, `nan` or `transparent`. Raises ValueError for anything else."""
    if words.lower() in WORDS:
        return (WORDS[words.lower()],)
    if words.startswith("#") and len(words) == 7:
        return (COLOUR | int(words[1:], 16),)
    if found := _RANGE.fullmatch(words):
        first, last = int(found[1]), int(found[2])
        if not 0 <= last - first < _MOST:
            raise ValueError(f"{words} is no range")
        return range(first, last + 1)
    try:
        return (int(words),)
    except ValueError:
        value = float(np.float32(words))  # as masks hold fractions
        if math.isnan(value):
            return (NOT_A_NUMBER,)
        return (plain(value),)
