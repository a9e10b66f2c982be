"""COCO's instances: polygons (an object may have several), run lengths packed or not, crowds like the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg_cli.core.sources.polygons import rle
from semiseg_cli.core.sources.polygons.outlines import Stamp, rectangle
from semiseg_cli.core.sources.polygons.shapes import Annotated, Found, Shape, ring, size


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
            if each["image_id"] not in images:
                raise ValueError(f"there is no image {each['image_id']}")
            if each["category_id"] not in categories:
                raise ValueError(f"there is no category {each['category_id']}")
            label, there = categories[each["category_id"]], images[each["image_id"]].size
            shapes[each["image_id"]] += _shapes(each, label, there, found)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"annotation {each.get('id', number)}: {_said(error)}") from error
    found.images = list(images.values())
    return found


def _shapes(each: dict[str, Any], label: str, there: tuple[int, int] | None, found: Found) -> list[Shape]:
    outline = each.get("segmentation")
    if isinstance(outline, dict):
        height, width = outline["size"]
        if there and (height, width) != there:
            raise ValueError(f"its mask is {width}x{height}, its image {there[1]}x{there[0]}")
        counts = outline["counts"]
        inside = rle.runs(rle.unpacked(counts) if isinstance(counts, str) else counts, height, width, columns=True)
        return [Shape(label, Stamp(0, 0, inside))]
    if not outline:
        found.left["boxes without an outline, whose pixels count nowhere"] += 1
        left, top, width, height = each["bbox"]
        return [Shape(None, rectangle(left, top, left + width, top + height))]
    return [Shape(label, ring(part)) for part in outline]


def _said(error: Exception) -> str:
    return f"no entry {error}" if isinstance(error, KeyError) else str(error)
