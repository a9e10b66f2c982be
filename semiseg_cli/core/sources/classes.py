"""The classes of somebody's own data: the classes file, default colours, and what the pixels of a mask stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.imaging import COLOUR
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, UsageError

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """What a classes file says. `palette` is empty where it gives none; `ignore` is None where it names no value."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = ()
    ignore: int | None = None
    licence: str = ""


@dataclass(frozen=True)
class LabelMap:
    """From the codes of a mask (`imaging.read_codes`) to class indices. `known` is sorted."""

    known: NDArray[np.int32]
    value: NDArray[np.uint8]
    classes: int

    def __call__(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.uint8], dict[int, int]]:
        """The mask, uint8 of the same shape, and pixels of every code that means nothing."""
        if int(codes.min()) >= 0 and int(codes.max()) < 256:
            return self._index_mask(codes)
        place = np.searchsorted(self.known, codes).clip(max=len(self.known) - 1)
        strange = self.known[place] != codes
        if not strange.any():
            return self.value[place], {}
        found, counts = np.unique(codes[strange], return_counts=True)
        return self.value[place], dict(zip(found.tolist(), counts.tolist(), strict=True))

    def _index_mask(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.uint8], dict[int, int]]:
        """The same for codes of one byte, by a table: a search takes ten times as long."""
        byte = (self.known >= 0) & (self.known < 256)
        table = np.zeros(256, np.uint8)
        table[self.known[byte]] = self.value[byte]
        counts = np.bincount(codes.ravel(), minlength=256)
        counts[self.known[byte]] = 0
        return table[codes], {int(code): int(counts[code]) for code in np.flatnonzero(counts)}


def read_classes(path: Path) -> Classes:
    """A classes file: a name per line, or JSON with `names` and optionally `palette`, `ignore_index`, `licence`.

    Raises DataError for a file that is neither, for fewer than 2 or more than 255 classes, and for repeated names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        classes = _from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_lines(text)
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        fix = 'a class name per line, or JSON: {"names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]]}'
        raise DataError(f"{path} is not a classes file", why=why, fix=fix) from error
    if not 2 <= len(classes.names) <= 255:
        raise DataError(f"{path} names {len(classes.names)} classes", why="2 to 255 can be told apart in a mask")
    for what, entries in (("name", classes.names), ("colour", classes.palette)):
        twice = [entry for place, entry in enumerate(entries) if entry in entries[:place]]
        if twice:
            raise DataError(f"{path} gives the {what} {twice[0]} to two classes", fix="make them differ")
    return classes


def _from_lines(text: str) -> Classes:
    return Classes(tuple(line.strip() for line in text.splitlines() if line.strip()))


def _from_json(table: Any) -> Classes:
    names = tuple(table["names"])
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("names are not all strings")
    palette = tuple((int(r), int(g), int(b)) for r, g, b in table.get("palette", ()))
    if palette and len(palette) != len(names):
        raise ValueError(f"{len(names)} names, but {len(palette)} colours")
    if any(not 0 <= level <= 255 for colour in palette for level in colour):
        raise ValueError("a palette level is not in 0 to 255")
    ignore = table.get("ignore_index")
    return Classes(names, palette, None if ignore is None else int(ignore), str(table.get("licence", "")))


def default_palette(classes: int) -> tuple[Colour, ...]:
    """The colour map of PASCAL VOC: the bits of an index, three at a time, become the high bits of R, G and B."""

    def level(index: int, channel: int) -> int:
        return sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))

    return tuple((level(k, 0), level(k, 1), level(k, 2)) for k in range(classes))


def declared(values: Mapping[int, int], classes: int) -> LabelMap:
    """The label map of a benchmark: these codes and no others. values: code -> class, or anything else for none."""
    known = sorted(values)
    targets = [values[code] if values[code] in range(classes) else IGNORE for code in known]
    return LabelMap(np.array(known, np.int32), np.array(targets, np.uint8), classes)


def label_map(classes: Classes, ignore: int, mapping: Mapping[int, int]) -> LabelMap:
    """What each code of somebody's mask stands for: a class's index or colour, what is ignored, and `mapping`.

    ignore: mask value of pixels that count nowhere (they become 255). mapping: code -> class index, or 255 for no
    class; it goes first, so {255: 1} makes a class of what is ignored otherwise. Raises UsageError for another target.
    """
    table = {index: index for index in range(len(classes.names))}
    table |= {colour_code(colour): index for index, colour in enumerate(classes.palette)}
    table[ignore] = IGNORE
    for code, target in mapping.items():
        if target not in (*range(len(classes.names)), IGNORE):
            raise UsageError(
                f"--map {code_name(code)}={target}: there is no class {target}",
                fix=f"a class from 0 to {len(classes.names) - 1}, or {IGNORE} for pixels that count nowhere",
            )
    return declared(table | dict(mapping), len(classes.names))


def colour_code(colour: Colour) -> int:
    """The code of a mask pixel of this colour."""
    red, green, blue = colour
    return COLOUR | red << 16 | green << 8 | blue


def code_name(code: int) -> str:
    """A code as people write it: `7`, or `#804000` for a colour."""
    return f"#{code & ~COLOUR:06x}" if code & COLOUR else str(code)


def parse_code(word: str) -> int:
    """The code of `7` or `#804000`. Raises ValueError for anything else."""
    return COLOUR | int(word[1:], 16) if word.startswith("#") and len(word) == 7 else int(word)
