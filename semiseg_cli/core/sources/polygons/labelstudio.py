"""Label Studio's JSON and JSON-MIN: polygons, brushes, rectangles and ellipses, in percent of the image's sides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from semiseg_cli.core.data.listing import suffixes
from semiseg_cli.core.sources.polygons import rle
from semiseg_cli.core.sources.polygons.outlines import Stamp, ellipse, rectangle, rotated
from semiseg_cli.core.sources.polygons.shapes import UNFIT, Annotated, Found, Shape, named, ring, said, size

KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")


def is_one(table: Any) -> bool:
    """Whether a JSON document is a list of tasks."""
    first = table[0] if isinstance(table, list) and table else None
    return isinstance(first, dict) and (("data" in first and "annotations" in first) or "annotation_id" in first)


def read(path: Path, tasks: list[dict[str, Any]], name: str) -> Found:
    found = Found("Label Studio")
    for number, task in enumerate(tasks):
        try:
            data, regions = _regions(task, found)
            shapes, there = list[Shape](), None
            for region in regions:
                there = size(region.get("original_height"), region.get("original_width")) or there
                shapes += _shapes(region, there, found)
        except UNFIT as error:
            raise ValueError(f"task {named(task, number)}: {said(error)}") from error
        found.images.append(Annotated(_names(data), there, shapes, path))
    return found


def _names(data: dict[str, Any]) -> tuple[str, ...]:
    """The path of a task's photo in its address, or below the storage that `?d=` names; and as it was before Label
    Studio set eight digits before the name of a file that was uploaded."""
    texts = [unquote(each.split("?d=")[-1].split("?")[0]) for each in data.values() if isinstance(each, str)]
    photos = [text for text in texts if Path(text).suffix.lower() in suffixes()]
    photo = next(iter(photos or [text for text in texts if "." in text]), "").replace("\\", "/")
    return tuple(dict.fromkeys((photo, re.sub(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)", r"\1", photo))))


def _regions(task: dict[str, Any], found: Found) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A task's data, and its regions with their values beside their sizes: of the first annotation that counts."""
    if "annotations" not in task:  # JSON-MIN
        lists = (value for value in task.values() if isinstance(value, list))
        return task, [each for value in lists for each in value if isinstance(each, dict)]
    done = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if len(done) > 1:
        found.left["of second and further annotations of a task"] += sum(len(each["result"]) for each in done[1:])
    results = done[0]["result"] if done else []
    return task["data"], [each | each["value"] for each in results if isinstance(each.get("value"), dict)]


def _shapes(region: dict[str, Any], there: tuple[int, int] | None, found: Found) -> list[Shape]:
    labels = next((region[kind] for kind in KINDS if kind in region), None)
    if labels is None or there is None:
        found.left[f"of kind {region.get('type', 'unknown')}"] += 1
        return []
    height, width = there
    labels = [str(label) for label in labels]
    found.classes += [label for label in labels if label not in found.classes]
    share = np.array([width, height]) / 100
    turn = float(region.get("rotation") or 0)
    if "rle" in region:
        packed = np.asarray(region["rle"], np.uint8)

        def drawing(high: int, wide: int) -> Stamp:
            if (height, width) != (high, wide):
                raise ValueError(f"its brush is of {width}x{height}, its image {wide}x{high}")
            return Stamp(0, 0, rle.brushed(packed, high, wide))

        what: Any = drawing
    elif "points" in region:
        what = ring(region["points"]) * share
    elif "radiusX" in region:
        (x, y), (wide, high) = ring([region[key] for key in ("x", "y", "radiusX", "radiusY")]) * share
        what = rotated(ellipse(x, y, wide, high), turn, x, y)
    else:
        (x, y), (wide, high) = ring([region[key] for key in ("x", "y", "width", "height")]) * share
        what = rotated(rectangle(x, y, x + wide, y + high), turn, x, y)
    return [Shape(label, what) for label in labels]
