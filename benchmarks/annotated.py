"""Annotations and files of classes that a user can hand in, one good file of each format, and what reads it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import damages as d
from benchmarks.scene import Scene

HEIGHT, WIDTH = 48, 64  # of the photos in own/images
CAR, TREE = [[4.2, 3.1], [33.7, 6.4], [28.3, 30.9], [8.6, 24.3]], [[20.3, 10.2], [45.9, 17.7], [24.1, 36.8]]
SHAPES = (("car", CAR), ("tree", TREE))


def scenes() -> list[Scene]:
    def reads(masks: str, *more: str) -> list[tuple[str, ...]]:
        return [("prepare", "folder", "--labeled", "own/images", "--masks", f"drawn/{masks}", "--name", "own", *more)]

    own = ("prepare", "folder", "--labeled", "own/images", "--masks", "own/masks", "--name", "own")
    names = ("--classes", "classes.txt")
    return [
        Scene("COCO", ["drawn/coco.json"], reads("coco.json"), [d.as_json], share=2),
        Scene("LabelMe", ["drawn/labelme/a.json"], reads("labelme"), [d.as_json], share=2),
        Scene("CVAT", ["drawn/cvat.xml"], reads("cvat.xml"), [d.as_xml], share=2),
        Scene("YOLO", ["drawn/yolo/labels/a.txt", "drawn/yolo/data.yaml"], reads("yolo"), [d.words, d.as_yaml]),
        Scene("YOLO, classes above", ["drawn/yolo/data.yaml"], reads("yolo/labels"), [d.as_yaml]),
        Scene("Label Studio", ["drawn/studio.json"], reads("studio.json"), [d.as_json], share=2),
        Scene("Label Studio, brush", ["drawn/brush.json"], reads("brush.json"), [d.as_json]),
        Scene("label map, Pascal", ["drawn/pascal/labelmap.txt"], reads("pascal"), [d.words]),
        Scene("annotations with classes", ["classes.txt"], reads("coco.json", "--classes", "drawn/two.txt"), [d.words]),
        *(
            Scene(f"classes, {end}", [f"classes.{end}"], [(*own, "--classes", f"classes.{end}")], damages)
            for end, damages in (("csv", [d.words]), ("yaml", [d.as_yaml]), ("txt", [d.words]))
        ),
        Scene("mask of several", ["own/masks/b.png"], [(*own, *names)], [d.sized]),
    ]


def build(root: Path) -> None:
    """The good files below `root`, where own/images are."""
    drawn = root / "drawn"
    for folder in ("labelme", "yolo/labels", "pascal/SegmentationClass"):
        (drawn / folder).mkdir(parents=True)
    files = {
        "coco.json": json.dumps(coco()), "labelme/a.json": json.dumps(labelme()),
        "labelme/b.json": json.dumps(labelme()), "cvat.xml": cvat(),
        "yolo/labels/a.txt": yolo(), "yolo/labels/b.txt": yolo(), "yolo/data.yaml": "names: [car, tree]\nnc: 2\n",
        "studio.json": json.dumps(studio()), "brush.json": json.dumps(brushed()), "two.txt": "car\ntree\n",
        "pascal/labelmap.txt": "# label:color_rgb:parts:actions\ncar:128,0,0::\ntree:0,128,0::\n",
    }  # fmt: skip
    for name, text in files.items():
        (drawn / name).write_text(text)
    colours = np.array([(128, 0, 0), (0, 128, 0)], np.uint8)
    for name in "abc":
        pixels = colours[np.random.default_rng(ord(name)).integers(0, 2, (HEIGHT, WIDTH))]
        Image.fromarray(pixels).save(drawn / "pascal" / "SegmentationClass" / f"{name}.png")


def coco() -> dict[str, Any]:
    """Polygons in one image, run lengths packed and not in another."""
    whole = HEIGHT * WIDTH
    packed = _packed([9, whole - 9])
    rows = [
        {"id": 1, "image_id": 1, "category_id": 4, "segmentation": [np.ravel(CAR).tolist()], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 5, "bbox": [3, 4, 20, 20], "segmentation": []},
        {"id": 3, "image_id": 2, "category_id": 5, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [9, whole - 9]}},
        {"id": 4, "image_id": 3, "category_id": 4, "segmentation": {"size": [HEIGHT, WIDTH], "counts": packed}},
    ]
    images = [
        {"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
        for number, name in enumerate("abc", 1)
    ]
    return {"images": images, "annotations": rows, "categories": [{"id": 4, "name": "car"}, {"id": 5, "name": "tree"}]}


def labelme() -> dict[str, Any]:
    """A polygon, a circle, a rectangle and a mask."""
    mask = io.BytesIO()
    Image.fromarray(np.full((6, 5), 255, np.uint8)).save(mask, "PNG")
    shapes = [{"label": name, "points": corners, "shape_type": "polygon"} for name, corners in SHAPES]
    shapes += [{"label": "car", "points": [[3, 4], [9, 9]], "shape_type": kind} for kind in ("circle", "rectangle")]
    held = base64.b64encode(mask.getvalue()).decode()
    shapes.append({"label": "tree", "points": [[3, 4], [7, 9]], "shape_type": "mask", "mask": held})
    return {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH}


def cvat() -> str:
    points = [";".join(f"{x},{y}" for x, y in corners) for _, corners in SHAPES]
    shapes = [
        f'<polygon label="car" points="{points[0]}" z_order="1"/>',
        '<box label="tree" xtl="3" ytl="4" xbr="20" ybr="30" rotation="30"/>',
        '<ellipse label="car" cx="30" cy="20" rx="5" ry="9"/>',
        '<mask label="tree" left="4" top="5" width="3" height="2" rle="1, 4, 1"/>',
        '<polyline label="car" points="3,4;5,6"/>',
    ]
    labels = "".join(f"<label><name>{name}</name></label>" for name, _ in SHAPES)
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">\n{chr(10).join(shapes)}\n</image>'
    both = "".join(f'<polygon label="{name}" points="{points[k]}"/>' for k, (name, _) in enumerate(SHAPES))
    other = f'<image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}">{both}</image>'
    return f"<annotations><meta><job><labels>{labels}</labels></job></meta>\n{image}\n{other}</annotations>\n"


def yolo() -> str:
    lines = [
        f"{k} " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners) for k, (_, corners) in enumerate(SHAPES)
    ]
    return "\n".join([*lines, "1 0.5 0.5 0.2 0.1"]) + "\n"


def studio() -> list[dict[str, Any]]:
    """A task with a polygon, an ellipse and a rectangle for each of two photos."""
    corners = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in CAR]
    values: list[dict[str, Any]] = [
        {"points": corners, "polygonlabels": ["car"]},
        {"x": 30, "y": 40, "radiusX": 10, "radiusY": 5, "rotation": 20, "ellipselabels": ["tree"]},
        {"x": 10, "y": 10, "width": 30, "height": 20, "rectanglelabels": ["tree"]},
    ]
    return [_task(number, name, values) for number, name in enumerate("ab")]


def brushed() -> list[dict[str, Any]]:
    """A brush over the whole of two photos: one word that repeats, a run as long as the image."""
    words = HEIGHT * WIDTH * 4
    bits = f"{words:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"1{3:02b}{words - 1:016b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    values: list[dict[str, Any]] = [
        {"rle": packed, "format": "rle", "brushlabels": ["car"]},
        {"x": 10, "y": 10, "width": 30, "height": 20, "rectanglelabels": ["tree"]},
    ]
    return [_task(number, name, values) for number, name in enumerate("ab")]


def _task(number: int, name: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    result = [
        {"original_width": WIDTH, "original_height": HEIGHT, "type": next(iter(value)), "value": value}
        for value in values
    ]
    return {"id": number, "data": {"image": f"/data/upload/{name}.png"}, "annotations": [{"result": result}]}


def _packed(counts: list[int]) -> str:
    """Run lengths as COCO packs them, of fewer than three runs."""
    text = ""
    for count in counts:
        while True:
            low, count = count & 31, count >> 5
            more = count != (-1 if low & 16 else 0)
            text += chr(48 + low + 32 * more)
            if not more:
                break
    return text
