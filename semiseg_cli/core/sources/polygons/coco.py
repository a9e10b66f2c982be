"""COCO's instances: polygons (an object may have several), run lengths packed or not, crowds like the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.sources.polygons import rle
from semiseg_cli.core.sources.polygons.outlines import Stamp, rectangle
from semiseg_cli.core.sources.polygons.shapes import BOXES, UNFIT, Annotated, Found, Shape, named, ring, said, size


def read(path: Path, table: dict[str, Any], name: str) -> Found:
    """name: the path of the file below the folder that was given. Raises ValueError that says what is wrong where."""
    found = Found("COCO")
    categories = {each["id"]: str(each["name"]) for each in sorted(table.get("categories", []), key=lambda c: c["id"])}
    found.classes = list(dict.fromkeys(categories.values()))
    images, shapes = dict[Any, Annotated](), dict[Any, list[Shape]]()
    for image in table["images"]:
        shapes[image["id"]] = []
        file, above = str(image["file_name"]).replace("\\", "/"), name.rpartition("/")[0]
        names = (f"{above}/{file}" if above else file,)
        there = size(image.get("height"), image.get("width"))
        images[image["id"]] = Annotated(names, there, shapes[image["id"]], path)
    for number, each in enumerate(table["annotations"]):
        try:
            if "segments_info" in each:
                raise ValueError("it is COCO panoptic, whose outlines lie in PNG files: export instances (polygons)")
            if each["image_id"] not in images:
                raise ValueError(f"there is no image {each['image_id']}")
            if each["category_id"] not in categories:
                raise ValueError(f"there is no category {each['category_id']}")
            shapes[each["image_id"]] += _shapes(each, categories[each["category_id"]], found)
        except UNFIT as error:
            raise ValueError(f"annotation {named(each, number)}: {said(error)}") from error
    found.images = list(images.values())
    return found


def _shapes(each: dict[str, Any], label: str, found: Found) -> list[Shape]:
    outline = each.get("segmentation")
    if isinstance(outline, dict):
        height, width = outline["size"]
        counts = outline["counts"]
        lengths = np.asarray(rle.unpacked(counts) if isinstance(counts, str) else counts, np.int64)

        def drawing(high: int, wide: int) -> Stamp:
            if (height, width) != (high, wide):
                raise ValueError(f"its mask is {width}x{height}, its image {wide}x{high}")
            return Stamp(0, 0, rle.runs(lengths, high, wide, columns=True))

        return [Shape(label, drawing)]
    if parts := [part for part in map(ring, outline or ()) if len(part) > 2]:
        return [Shape(label, part) for part in parts]
    if not each.get("bbox"):
        found.left["without an outline or a box"] += 1
        return []
    found.left[BOXES] += 1
    left, top, width, height = each["bbox"]
    return [Shape(None, rectangle(left, top, left + width, top + height))]

