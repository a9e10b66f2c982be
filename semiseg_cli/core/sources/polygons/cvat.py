"""CVAT for images 1.1: polygons, boxes, ellipses and masks, by their z-order. No document type, so no entities."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from semiseg_cli.core.sources.polygons import rle
from semiseg_cli.core.sources.polygons.outlines import Stamp, ellipse, rectangle, rotated
from semiseg_cli.core.sources.polygons.shapes import UNFIT, Annotated, Found, Shape, ring, size


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, in which entities may hide: CVAT writes none")


def parsed(data: bytes) -> ElementTree.Element:
    """The root of an XML document. Raises ValueError for what is none, and for a document type."""
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(data)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no XML: {error}") from error
    assert isinstance(root, ElementTree.Element)
    return root


def read(path: Path, root: ElementTree.Element, name: str) -> Found:
    """name is not used: CVAT's images have names of their own."""
    if root.tag != "annotations" or root.find("track") is not None:
        kinds = {"annotations": "CVAT for video", "annotation": "Pascal VOC's, which has boxes and no outlines"}
        raise ValueError(f"it is {kinds.get(root.tag, f'a document <{root.tag}>')}: export 'CVAT for images 1.1'")
    found = Found("CVAT", classes=[each.findtext("name") or "" for each in root.iterfind("meta//label")])
    for image in root.iterfind("image"):
        shapes = list[tuple[int, Shape]]()
        for number, each in enumerate(image):
            try:
                if (shape := _shape(each, found)) is not None:
                    shapes.append((int(each.get("z_order") or 0), shape))
            except UNFIT as error:
                raise ValueError(f"image {image.get('name')}, shape {number} ({each.tag}): {error}") from error
        ordered = [shape for _, shape in sorted(shapes, key=lambda pair: pair[0])]
        there = size(image.get("height"), image.get("width"))
        found.images.append(Annotated((str(image.get("name")).replace("\\", "/"),), there, ordered, path))
    return found


def _shape(each: ElementTree.Element, found: Found) -> Shape | None:
    label = each.get("label")

    def numbers(*names: str) -> Any:
        return [float(each.get(name) or "nan") for name in names]

    if each.tag == "polygon":
        return Shape(label, ring([pair.split(",") for pair in (each.get("points") or "").split(";")]))
    if each.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        turn = float(each.get("rotation") or 0)
        return Shape(
            label, rotated(ring(rectangle(left, top, right, bottom)), turn, (left + right) / 2, (top + bottom) / 2)
        )
    if each.tag == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        ring([x, y, radius_x, radius_y])
        return Shape(label, rotated(ellipse(x, y, radius_x, radius_y), float(each.get("rotation") or 0), x, y))
    if each.tag == "mask":
        left, top, width, height = (int(value) for value in numbers("left", "top", "width", "height"))
        counts = [int(word) for word in (each.get("rle") or "").split(",")]

        def drawing(high: int, wide: int) -> Stamp:
            if height > high or width > wide:
                raise ValueError(f"its mask is {width}x{height}, its image {wide}x{high}")
            return Stamp(top, left, rle.runs(counts, height, width, columns=False))

        return Shape(label, drawing)
    if each.tag in ("polyline", "points", "cuboid", "skeleton"):
        found.left[f"of kind {each.tag}"] += 1
    return None
