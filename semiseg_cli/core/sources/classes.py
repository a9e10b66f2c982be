"""The classes of somebody's own data: names, colours and values, from the files in which people have them."""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.names import decoded
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.reading import parse_json, read_bytes
from semiseg_cli.core.sources.codes import Colour
from semiseg_cli.core.sources.rows import VOID, Row, from_lines, parse_colour

LARGEST = 1 << 20  # bytes of a classes file
DEEPEST = 20  # brackets in brackets
FARTHEST = 1 << 53  # from 0: a value in a mask; those of floating-point masks are exact so far
FORMATS = (
    'a class name per line; lines "0: road", "road,128,64,128" or CVAT\'s label map; CSV with a header; JSON or YAML: '
    '{"names": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]]}, a list of names, {"0": "road"} or id2label'
)
_LINES = (".txt", ".csv", ".tsv", ".names", ".lst", "")


@dataclass(frozen=True)
class Classes:
    """What a classes file says. `palette` and `values` (the mask value of each class) are empty where it gives none;
    `ignore` is None where it names no value."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = ()
    ignore: int | None = None
    licence: str = ""
    values: tuple[int, ...] = ()


def read_classes(path: Path) -> Classes:
    """A classes file in any of `FORMATS`.

    Raises DataError for any other file, for fewer than 2 or more than 255 classes, and for what is given twice.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes: annotations, and no table of classes")
        suffix, text = path.suffix.lower(), decoded(read_bytes(path, LARGEST))
        if "\ufffd" in text:
            old, new = (shlex.quote(str(each)) for each in (path, path.with_stem(f"{path.stem}-utf8")))
            raise ValueError(f"it is not UTF-8; from Windows perhaps: iconv -f cp1252 -t utf-8 {old} > {new}")
        if suffix == ".json" or (suffix in _LINES and text.lstrip()[:1] in ("{", "[")):
            classes = _from_table(parse_json(text))
        elif suffix in (".yaml", ".yml"):
            classes = _from_table(parse_yaml(text))
        elif suffix in _LINES:
            classes = _collected(from_lines(text, suffix))
        else:
            raise ValueError(f"{suffix} files are not read")
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        why = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is not a classes file that is read", why=why, fix=FORMATS) from error
    if not 2 <= len(classes.names) <= 255:
        raise DataError(f"{path} names {len(classes.names)} classes", why="2 to 255 can be told apart in a mask")
    for what, entries in (("name", classes.names), ("colour", classes.palette), ("value", classes.values)):
        twice = [entry for place, entry in enumerate(entries) if entry in entries[:place]]
        if twice:
            raise DataError(f"{path} gives the {what} {twice[0]} to two classes", fix="make them differ")
    return classes


def parse_yaml(text: str) -> Any:
    """The document of a YAML text. Raises ValueError for what is none, or nested too deeply.

    It may hold one thing in many places, so that it is small, and endless once it is written out.
    """
    import yaml

    depths = accumulate((char in "[{") - (char in "]}") for char in text)
    if max(depths, default=0) > DEEPEST:  # which takes YAML minutes to find out
        raise ValueError("it is nested too deeply")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:  # of its dates and numbers
        raise ValueError(f"it is no YAML that is read: {error}") from error


def _collected(rows: Sequence[Row], ignore: int | None = None, licence: str = "") -> Classes:
    """Rows of a table as classes, in the order of their values where they have some, which is then left out if it is
    0, 1, 2, ..."""
    if void := [row for row in rows if row.value == IGNORE and row.name.lower() in VOID]:
        rows, ignore = [row for row in rows if row not in void], IGNORE if ignore is None else ignore
    for entry in ("value", "colour"):
        given = [row for row in rows if getattr(row, entry) is not None]
        if given and len(given) < len(rows):
            lacking = next(row for row in rows if getattr(row, entry) is None)
            raise ValueError(f"'{lacking.name}' has no {entry}, unlike {len(given)} others")
    for row in rows:
        if row.value is not None and abs(row.value) > FARTHEST:
            raise ValueError(f"'{row.name[:60]}' has a value that no pixel has")
    ordered = sorted(rows, key=lambda row: row.value if row.value is not None else 0)
    values = tuple(row.value for row in ordered if row.value is not None)
    palette = tuple(row.colour for row in ordered if row.colour is not None)
    plain = values == tuple(range(len(rows)))
    return Classes(tuple(row.name for row in ordered), palette, ignore, licence, () if plain else values)


_LISTS = ("names", "classes", "categories", "labels", "id2label", "label2id")


def _from_table(table: Any) -> Classes:
    """Classes of parsed JSON or YAML."""
    if not isinstance(table, Mapping):
        return _collected(_entries(table))
    found = [key for key in _LISTS if key in table]
    if not found:
        return _collected(_entries(table))
    palette = table.get("palette") or ()
    rows = _entries(table[found[0]])
    if palette:
        palette = [palette[row.name] for row in rows] if isinstance(palette, Mapping) else palette
        if len(palette) != len(rows):
            raise ValueError(f"{len(rows)} names, but {len(palette)} colours")
        rows = [Row(row.name, row.value, _colour(colour)) for row, colour in zip(rows, palette, strict=True)]
    ignore, licence = table.get("ignore_index"), table.get("licence", "")
    if ignore is not None and not (_is_whole(ignore) and abs(int(ignore)) <= FARTHEST):
        raise ValueError(f"ignore_index is {_said(ignore)}, which no pixel has")
    if not isinstance(licence, str):
        raise ValueError(f"licence is {_said(licence)}, which is no text")
    return _collected(rows, None if ignore is None else int(ignore), licence)


def _entries(entries: Any) -> list[Row]:
    """Rows of a list of names or of objects, of {value: name} (`id2label`), {name: value} or {name: colour}."""
    if isinstance(entries, Mapping):
        keys = list(entries)
        if all(_is_whole(key) for key in keys):
            return [Row(_name(name), int(key)) for key, name in entries.items()]
        if all(_is_whole(value) for value in entries.values()):
            return [Row(_name(name), int(value)) for name, value in entries.items()]
        if all(isinstance(value, Sequence) and len(value) in (3, 7) for value in entries.values()):
            return [Row(_name(name), None, _colour(colour)) for name, colour in entries.items()]
        raise ValueError(f"none of {', '.join(_LISTS)} is in it, and {_said(keys[:3])} are no classes")
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise ValueError(f"{_said(entries)!r} is no list of names")
    return [_object(entry) if isinstance(entry, Mapping) else Row(_name(entry)) for entry in entries]


def _object(entry: Mapping[str, Any]) -> Row:
    """A row of {"name": ..., "id": ..., "color": ...}, as of COCO's categories."""
    low = {str(key).lower(): value for key, value in entry.items()}
    name = next((low[key] for key in ("name", "label", "title", "class") if key in low), None)
    value = next((low[key] for key in ("id", "value", "index", "pixel_value") if _is_whole(low.get(key))), None)
    colour = next((low[key] for key in ("color", "colour", "rgb") if low.get(key)), None)
    return Row(_name(name), None if value is None else int(value), None if colour is None else _colour(colour))


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) is not None)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"names are not all strings: {_said(name)!r} (a name like no or 1 stands in quotes)")
    return name.strip()


def _said(value: Any) -> str:
    """Some of a value in words, whatever it is."""
    return (value if isinstance(value, str) else reprlib.repr(value))[:80]


def _colour(colour: Any) -> Colour:
    if isinstance(colour, str):
        return parse_colour(colour)
    red, green, blue = (int(level) for level in colour)
    if not all(0 <= level <= 255 for level in (red, green, blue)):
        raise ValueError("a palette level is not in 0 to 255")
    return red, green, blue
