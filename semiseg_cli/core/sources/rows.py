"""Tables of classes in lines of text: names alone, with values, with colours, with a header or without.

Which of these a file is, all its lines decide. A file that looks like a table and is none of these is refused; it is
never taken for names.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semiseg_cli.core.sources.codes import Colour

VOID = ("ignore", "ignored", "void", "unlabeled", "unlabelled", "don't care")  # names that make no class of 255
LONGEST = 2000  # characters of a line
_CVAT = re.compile(r"([^:]*):(\d+),(\d+),(\d+):[^:]*:[^:]*")
_COMMENT = re.compile(r"(^|\s)(#(?![0-9a-fA-F]{6}\b)|//).*$")
_HEX = re.compile(r"#?[0-9a-fA-F]{6}")
_COUNTED = re.compile(r"(?P<value>\d+)\s+(?P<name>\S.*)")
_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        r"(?P<value>-?\d+)\s*[:=]\s*(?P<name>\S.*)",
        r"(?P<name>[^:=]*[^:=\s])\s*[:=]\s*(?P<value>-?\d+)",
        r"(?:(?P<value>\d+)\s+)?(?P<rgb>\d+\s+\d+\s+\d+)\s+(?P<name>\D.*)",
        r"(?P<value>\d+)\s+(?P<name>\D.*?)\s+(?P<rgb>\d+\s+\d+\s+\d+)",
        r"(?P<name>.*\S)\s+(?P<rgb>\d+\s+\d+\s+\d+)",
    )
]
_TABLE_LIKE = re.compile(r":\s*\d|^\s*[\[{<]|^-?\d+\s*[:=,;\t]|[,;\t]\s*\d+\s*$|^\w+\s*:|\d\s+\d+\s+\d")
_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "name": (
        "name", "classname", "labelname", "categoryname", "category", "class", "label", "title", "classes", "names",
    ),
    "value": (
        "value", "pixelvalue", "id", "index", "idx", "classid", "labelid", "classindex", "labelindex", "pixel", "code",
        "number", "class", "label", "maskvalue", "classvalue", "categoryid", "catid", "greyvalue", "grayvalue",
    ),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
    "colour": ("color", "colour", "hex", "rgb", "hexcolor", "hexcolour", "colorrgb", "colourrgb"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A class, its value in masks and its colour, as far as they are given."""

    name: str
    value: int | None = None
    colour: Colour | None = None


def from_lines(text: str, suffix: str) -> list[Row]:
    """The rows of a text file. Raises ValueError, which names a line, for a table that is not understood."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [_COMMENT.sub("", line).strip() for line in lines]
    if long := next((line for line in lines if len(line) > LONGEST), ""):
        raise ValueError(f"'{long[:60]}...' has {len(long):,} characters, more than the line of a table")
    lines = [line for line in lines if line and line != "__ignore__"]  # LabelMe's name of what is no class
    if not lines:
        return []
    if all(_CVAT.fullmatch(line) for line in lines):
        return [
            Row(found[1], None, _rgb(found[2], found[3], found[4]))
            for line in lines
            if (found := _CVAT.fullmatch(line))
        ]
    if rows := _spaced(lines):
        return rows
    for separator in "\t;,":
        cells = [
            [cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)
        ]
        cells = [row[:-1] if row[-1] == "" else row for row in cells]
        if {len(row) for row in cells} == {len(cells[0])} and len(cells[0]) > 1:
            return [Row(name) for name in cells[0]] if len(cells) == 1 else _from_cells(cells, lines)
    if suffix in (".csv", ".tsv"):
        if ragged := [line for line in lines if re.search("[\t;,]", line)]:
            raise ValueError(f"'{ragged[-1][:60]}' has not as many cells as other lines")
        return _from_cells([[line.strip('"')] for line in lines], lines)
    for line in lines:
        if _TABLE_LIKE.search(line):
            raise ValueError(f"'{line[:60]}' is no name, and the lines together are no table that is read")
    return [_named(line) for line in lines]


def _named(line: str) -> Row:
    """A line that is a name; `255 void` among names is the value that is ignored."""
    value, _, name = line.partition(" ")
    return Row(name.strip(), int(value)) if value == "255" and name.strip().lower() in VOID else Row(line)


def _spaced(lines: Sequence[str]) -> list[Row]:
    """Rows of lines that all fit one pattern, or are `0 name` with numbers that count up; else none."""
    lines = [" ".join(line.split()) for line in lines]  # in many spaces the patterns would look for ever
    for pattern in _PATTERNS:
        found = [match for line in lines if (match := pattern.fullmatch(line))]
        if len(found) == len(lines):
            return [_row(match) for match in found]
    found = [match for line in lines if (match := _COUNTED.fullmatch(line))]
    numbers = [int(match["value"]) for match in found]
    counted = len(found) == len(lines) and numbers[0] in (0, 1)
    counted = counted and numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    return [_row(match) for match in found] if counted else []


def _row(match: re.Match[str]) -> Row:
    groups = match.groupdict()
    rgb = groups.get("rgb")
    value = groups.get("value")
    name = groups["name"].strip(" \t\"',:")
    return Row(name, None if value is None else int(value), _rgb(*rgb.split()) if rgb else None)


def _from_cells(cells: Sequence[Sequence[str]], lines: Sequence[str]) -> list[Row]:
    """Rows of cells: by their header, or without one by what their columns hold."""
    columns = _headed(cells[0])
    body = cells[1:] if columns else cells
    columns = columns or _guessed(cells)
    if not columns or not body:
        raise ValueError(
            f"'{lines[0][:60]}' is no header with a column for the name (name, class), nor a row of a table"
        )
    if "value" in columns and not _whole(body, columns["value"]) and _whole(body, columns["name"]):
        columns = columns | {
            "name": columns["value"],
            "value": columns["name"],
        }  # both may be headed `class`, or `label`
    rows = []
    for row, line in zip(body, lines[len(cells) - len(body) :], strict=True):
        cell = {what: row[place] for what, place in columns.items()}
        try:
            rows.append(_of_cells(cell))
        except ValueError as error:
            raise ValueError(f"'{line[:60]}' is no row of its table: {error}") from error
    return rows


def _whole(rows: Sequence[Sequence[str]], place: int) -> bool:
    return all(re.fullmatch(r"-?\d+", row[place]) for row in rows)


def _of_cells(cell: Mapping[str, str]) -> Row:
    colour = None
    if {"red", "green", "blue"} <= cell.keys():
        colour = _rgb(cell["red"], cell["green"], cell["blue"])
    elif "colour" in cell:
        colour = parse_colour(cell["colour"])
    if not cell["name"]:
        raise ValueError("the name is empty")
    return Row(cell["name"], int(cell["value"]) if "value" in cell else None, colour)


def _headed(header: Sequence[str]) -> dict[str, int]:
    """What the columns of a header hold, by its place; empty for a row that is none."""
    words = [re.sub(r"[^a-z]", "", cell.lower()) for cell in header]
    found = dict[str, int]()
    for what, known in _HEADINGS.items():
        places = [place for word in known for place, there in enumerate(words) if there == word]
        if what == "value":
            places = [place for place in places if place != found.get("name")]
        if places:
            found[what] = places[0]
    numbers = any(re.fullmatch(r"-?\d+", cell) for cell in header)
    return found if "name" in found and not numbers and len(set(words)) == len(words) else {}


def _guessed(cells: Sequence[Sequence[str]]) -> dict[str, int]:
    """What columns without a header hold: one of names, and one, three or four of numbers, or colours as #rrggbb."""
    places = range(len(cells[0]))
    numbers = [place for place in places if _whole(cells, place)]
    hexes = [place for place in places if all(re.fullmatch(r"#[0-9a-fA-F]{6}", row[place]) for row in cells)]
    names = [place for place in places if place not in (*numbers, *hexes)]
    kinds = {
        0: (), 1: ("value",), 3: ("red", "green", "blue"), 4: ("value", "red", "green", "blue")
    }.get(len(numbers))  # fmt: skip
    if len(names) != 1 or kinds is None or len(hexes) > 1:
        return {}
    return {"name": names[0]} | dict(zip(kinds, numbers, strict=True)) | ({"colour": hexes[0]} if hexes else {})


def parse_colour(text: str) -> Colour:
    """The colour of `#804000`, `128 64 0`, `(128, 64, 0)`. Raises ValueError for anything else."""
    if _HEX.fullmatch(text.strip()):
        code = int(text.strip().lstrip("#"), 16)
        return code >> 16, code >> 8 & 255, code & 255
    levels = re.findall(r"\d+", text)
    if len(levels) != 3 or re.search(r"[a-zA-Z#.]", text.replace("rgb", "")):
        raise ValueError(f"'{text}' is no colour")
    return _rgb(*levels)


def _rgb(red: str, green: str, blue: str) -> Colour:
    colour = int(red), int(green), int(blue)
    if not all(0 <= level <= 255 for level in colour):
        raise ValueError(f"{red}, {green}, {blue} is no colour of levels from 0 to 255")
    return colour
