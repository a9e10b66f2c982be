"""Annotations as files, in the formats that tools for drawing open: COCO, LabelMe, CVAT for images 1.1, YOLO.

A ring goes into every one as it is: where a region has holes they are joined to it by cuts, which all of these tools
fill right, whether they count turns by the even-odd or by the non-zero rule. Files that hold all images are written
image by image, whole or not at all.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from semiseg_cli.core.data.decode import read
from semiseg_cli.core.data.shards import member
from semiseg_cli.core.files import whole, write_text
from semiseg_cli.core.sources.polygons.labels import hex_colour
from semiseg_cli.core.sources.polygons.outlines import Ring, area


class Classes(NamedTuple):
    """Names and colours by label, of those that are written: pixels in no outline are the background."""

    names: Mapping[int, str]
    colours: Mapping[int, Sequence[int]]


class Drawn(NamedTuple):
    """The outlines of an image. name: what files call it, with its suffix; photo: where it lies, perhaps in a shard."""

    name: str
    photo: Path
    height: int
    width: int
    outlines: Sequence[tuple[int, Ring]]


Write = Callable[[Drawn], None]


@contextmanager
def coco(folder: Path, classes: Classes) -> Iterator[Write]:
    """`annotations.json` in COCO's format; a category's id is the class's index and one."""
    counts, images = {"annotation": 0}, list[str]()
    categories = [{"id": label + 1, "name": name, "supercategory": ""} for label, name in classes.names.items()]
    with whole(folder / "annotations.json") as path, path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {{}}, "licenses": [], "categories": {_json(categories)},\n"annotations": [')

        def write(drawn: Drawn) -> None:
            image = {"id": len(images) + 1, "file_name": drawn.name, "width": drawn.width, "height": drawn.height}
            images.append(_json(image))
            for label, ring in drawn.outlines:
                counts["annotation"] += 1
                left, top = ring.min(axis=0).tolist()
                right, bottom = ring.max(axis=0).tolist()
                row = {
                    "id": counts["annotation"], "image_id": image["id"], "category_id": label + 1,
                    "segmentation": [_plain(ring.ravel())], "area": area(ring),
                    "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
                }  # fmt: skip
                file.write(f"{',' * (counts['annotation'] > 1)}\n{_json(row)}")

        yield write
        rows = ",\n".join(images)
        file.write(f'],\n"images": [\n{rows}]}}\n')


@contextmanager
def labelme(folder: Path, classes: Classes) -> Iterator[Write]:
    """A JSON for every image, which finds its photo from where it lies, or holds one that lies in a shard.

    `labels.txt` beside them is for `labelme --labels`.
    """
    names = ["__ignore__", *classes.names.values()]
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in names))

    def write(drawn: Drawn) -> None:
        path = (folder / drawn.name).with_suffix(".json")
        shapes: list[dict[str, Any]] = [
            {
                "label": classes.names[label], "points": [_plain(point) for point in ring], "group_id": None,
                "description": "", "shape_type": "polygon", "flags": {},
            }
            for label, ring in drawn.outlines
        ]  # fmt: skip
        photo = Path(os.path.relpath(drawn.photo.absolute(), path.parent.absolute())).as_posix()
        data = base64.b64encode(read(drawn.photo)).decode() if member(drawn.photo) else None
        table: dict[str, Any] = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": photo, "imageData": data,
            "imageHeight": drawn.height, "imageWidth": drawn.width,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _json(table) + "\n")

    yield write


@contextmanager
def cvat(folder: Path, classes: Classes) -> Iterator[Write]:
    """`annotations.xml`, as CVAT exports "CVAT for images 1.1"."""
    count = 0
    with whole(folder / "annotations.xml") as path, path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write("<meta><task><labels>\n")
        for label, name in classes.names.items():
            colour = hex_colour(classes.colours[label])
            file.write(f"<label><name>{_text(name)}</name><color>{colour}</color><type>any</type></label>\n")
        file.write("</labels></task></meta>\n")

        def write(drawn: Drawn) -> None:
            nonlocal count
            size = f'width="{drawn.width}" height="{drawn.height}"'
            file.write(f'<image id="{count}" name={quoteattr(drawn.name)} {size}>\n')
            count += 1
            for label, ring in drawn.outlines:
                points = ";".join(f"{x:g},{y:g}" for x, y in ring.tolist())
                name = quoteattr(classes.names[label])
                file.write(f'<polygon label={name} source="auto" occluded="0" points="{points}" z_order="0"/>\n')
            file.write("</image>\n")

        yield write
        file.write("</annotations>\n")


@contextmanager
def yolo(folder: Path, classes: Classes) -> Iterator[Write]:
    """`labels/<image>.txt`, a polygon a line in fractions of the image's sides, and `data.yaml` with the names.

    Ultralytics looks for labels beside `images/`, where links to the photos lie, or copies of those in shards and on
    a disk without links; and for that folder beside `data.yaml`, for want of a `path`, which it would take from where
    it runs.
    """
    places = {label: place for place, label in enumerate(classes.names)}
    names = "".join(f"  {places[label]}: {_json(name)}\n" for label, name in classes.names.items())
    write_text(folder / "data.yaml", f"train: images\nval: images\nnames:\n{names}")

    def write(drawn: Drawn) -> None:
        lines = [
            f"{places[label]} {' '.join(f'{value:.7g}' for value in (ring / (drawn.width, drawn.height)).ravel())}\n"
            for label, ring in drawn.outlines
        ]
        path = (folder / "labels" / drawn.name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(lines))
        _place(drawn.photo, folder / "images" / drawn.name)

    yield write


def _place(photo: Path, there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    there.unlink(missing_ok=True)
    if member(photo):
        there.write_bytes(read(photo))
        return
    try:
        there.symlink_to(photo.resolve())
    except OSError:
        shutil.copyfile(photo, there)


WRITERS: Mapping[str, Callable[[Path, Classes], AbstractContextManager[Write]]] = {
    "coco": coco, "labelme": labelme, "cvat": cvat, "yolo": yolo,
}  # fmt: skip


def _plain(values: Ring) -> list[float]:
    """Numbers as JSON has them, whole ones short."""
    return [int(value) if value == int(value) else value for value in values.tolist()]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    return quoteattr(text)[1:-1]
