"""YOLO's outlines, as Ultralytics and Roboflow write them: a text file for each image, a line for each shape, its class
by number and its corners in fractions of the image's sides. Names stand in `data.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core.sources.polygons.outlines import rectangle
from semiseg_cli.core.sources.polygons.shapes import BOXES, UNFIT, Annotated, Found, Shape, ring


def is_one(text: str) -> bool:
    """Whether a text is such a file: every line a whole number and some others. An empty one is, too."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return all(len(line) >= 5 and line[0].isdecimal() and _is_number(line[1]) for line in lines)


def read(path: Path, text: str, name: str) -> Found:
    found, shapes = Found("YOLO"), list[Shape]()
    for number, line in enumerate(text.splitlines(), 1):
        if not (words := line.split()):
            continue
        try:
            values, label = ring(words[1:]), int(words[0])
            if (abs(values) > 2).any():
                raise ValueError("corners are no fractions of the image's sides")
        except UNFIT as error:
            raise ValueError(f"line {number}: {error}") from error
        if len(values) == 2:
            found.left[BOXES] += 1
            (x, y), (width, height) = values
            shapes.append(Shape(None, rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
        else:
            shapes.append(Shape(label, values))
    found.images.append(Annotated((str(Path(name).with_suffix("")),), None, shapes, path, fractions=True))
    return found


def named(image: Annotated, names: Sequence[str]) -> Annotated:
    """With the names of `data.yaml` in place of numbers; a number beyond them stays, as a name of no class."""
    shapes = [
        replace(shape, label=names[shape.label] if shape.label < len(names) else str(shape.label))
        if isinstance(shape.label, int)
        else shape
        for shape in image.shapes
    ]
    return replace(image, shapes=shapes)


def names_in(table: Any) -> list[str]:
    """Class names of a `data.yaml`, by number; empty where it is none."""
    names = table.get("names") if isinstance(table, dict) else None
    if isinstance(names, Mapping):
        names = [names[key] for key in range(len(names))] if names.keys() == set(range(len(names))) else None
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        return []
    return [str(name) for name in names]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
