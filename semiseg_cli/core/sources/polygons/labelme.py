"""LabelMe's JSON, a file for each image: polygons, rectangles, turned or not, circles, masks; lines have no area."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semiseg_cli.core.sources.polygons.outlines import Stamp, ellipse, rectangle
from semiseg_cli.core.sources.polygons.shapes import UNFIT, Annotated, Drawing, Found, Shape, ring, said, size


def read(path: Path, table: dict[str, Any], name: str) -> Found:
    """name: the path of the file below the folder that was given, which LabelMe names like the photo."""
    found, shapes = Found("LabelMe"), list[Shape]()
    for number, each in enumerate(table["shapes"]):
        try:
            label = str(each["label"])
            if label not in found.classes:
                found.classes.append(label)
            kind, points = each.get("shape_type") or "polygon", ring(each["points"])
            if kind == "mask":
                shapes.append(Shape(label, _mask(each["mask"], points)))
            elif kind == "circle" and len(points) == 2:
                radius = math.dist(points[0], points[1])
                shapes.append(Shape(label, ellipse(points[0][0], points[0][1], radius, radius)))
            elif kind == "rectangle" and len(points) == 2:
                shapes.append(Shape(label, rectangle(*points.min(axis=0), *points.max(axis=0))))
            elif kind in ("polygon", "rectangle", "oriented_rectangle"):
                shapes.append(Shape(label, points))
            else:
                found.left[f"of kind {kind}"] += 1
        except UNFIT as error:
            raise ValueError(f"shape {number}: {said(error)}") from error
    names = [str(Path(name).with_suffix(""))]
    if table.get("imagePath"):
        names.append(str(table["imagePath"]).replace("\\", "/"))
    there = size(table.get("imageHeight"), table.get("imageWidth"))
    found.images.append(Annotated(tuple(names), there, shapes, path))
    return found


def _mask(data: str, points: Any) -> Drawing:
    """A PNG that covers a box of pixels, the last included."""
    left, top = (int(value) for value in points.min(axis=0))  # LabelMe cuts off what a mask was moved by
    packed = base64.b64decode(data)

    @contextmanager
    def opened() -> Iterator[Image.Image]:
        try:
            with Image.open(io.BytesIO(packed), formats=["PNG"]) as image:
                yield image
        except Exception as error:  # Pillow's decoders raise anything on damaged files
            raise ValueError(f"its mask is no PNG: {error}") from error

    with opened() as image:
        width, height = image.size

    def drawing(high: int, wide: int) -> Stamp:
        if height > high or width > wide:
            raise ValueError(f"its mask is {width}x{height}, its image {wide}x{high}")
        with opened() as image:
            return Stamp(top, left, np.asarray(image.convert("L")) > 0)

    return drawing
