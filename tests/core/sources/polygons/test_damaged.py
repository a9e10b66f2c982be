"""Annotations that are damaged or made to do harm: an error that names the file, soon, and within little memory."""

from __future__ import annotations

import base64
import io
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.polygons.drawing import EMPTY, draw
from semiseg_cli.core.sources.polygons.files import annotation_files, read_all
from semiseg_cli.core.sources.polygons.shapes import Found

HEIGHT, WIDTH = 40, 50
CORNERS = [[4.0, 3.0], [33.0, 6.0], [28.0, 30.0]]
BOMB = "".join(f"x{k}: &x{k} [{', '.join([f'*x{k - 1}' if k else 'lol'] * 9)}]\n" for k in range(9))


def coco(**odd: Any) -> str:
    annotation = {"id": 7, "image_id": 1, "category_id": 5, "segmentation": [np.ravel(CORNERS).tolist()]}
    image = {"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH} | odd.pop("image", {})
    categories = [{"id": 5, "name": "car"}, {"id": 6, "name": "tree"}]
    return json.dumps({"images": [image], "annotations": [annotation | odd], "categories": categories})


def labelme(**odd: Any) -> str:
    shape = {"label": "car", "points": CORNERS, "shape_type": "polygon"} | odd
    return json.dumps({"shapes": [shape], "imagePath": "a.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH})


def cvat(shape: str, head: str = "") -> str:
    image = f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{shape}</image>'
    return f"{head}<annotations>{image}</annotations>"


def studio(value: dict[str, Any], **odd: Any) -> str:
    region = {"original_width": WIDTH, "original_height": HEIGHT, "value": value} | odd
    return json.dumps([{"id": 3, "data": {"image": "a.jpg"}, "annotations": [{"result": [region]}]}])


def read(folder: Path, name: str, text: str, **more: str) -> Found:
    for file, words in {name: text, **more}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(words, encoding="utf-8")
    return read_all(annotation_files(folder, None), folder)


ELLIPSE = {"x": 30, "y": 40, "radiusX": 10, "radiusY": 5, "ellipselabels": ["car"]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", coco(image={"height": float("inf")}), "infinity"),
        ("a.json", coco(image={"id": [1]}), "unhashable"),
        ("a.json", coco(segmentation={"size": [HEIGHT], "counts": [1]}), "annotation 7: not enough values"),
        ("a.json", coco(segmentation={"size": [HEIGHT, WIDTH], "counts": [10**40]}), "annotation 7: "),
        ("a.json", coco(bbox=[1], segmentation=[]), "annotation 7: "),
        ("a.json", coco(segments_info=[{"id": 100}]), "annotation 7: it is COCO panoptic"),
        ("a.json", coco().replace("33.0", "1" * 5000), "5,000 digits"),
        ("a.json", '{"images": ' + "[" * 100_000, "too deeply"),
        ("a.json", labelme(points=[[float("nan"), 1]] * 3), "shape 0"),
        ("a.json", labelme(shape_type="mask", mask=7), "shape 0"),
        ("a.json", studio(ELLIPSE, rotation=float("nan")), "task 3: nan is no angle"),
        ("a.json", studio({"rle": [[1], [2, 3]], "brushlabels": ["car"]}), "task 3"),
        ("a.json", studio({"points": CORNERS, "polygonlabels": 7}), "task 3"),
        ("a.xml", cvat('<mask label="car" left="1e400" top="0" width="1" height="1" rle="1"/>'), "shape 0 (mask)"),
        ("a.xml", cvat('<ellipse label="car" cx="9" cy="9" rx="3" ry="4" rotation="inf"/>'), "inf is no angle"),
        ("a.xml", cvat("&a;", '<!DOCTYPE a [<!ENTITY a "lol">]>'), "document type"),
        ("a.xml", "<a>" * 99_999, "no XML"),
        ("data.yaml", "names: " + "[" * 500, "too deeply"),
        ("data.yaml", "names: 2001-13-45", "no YAML"),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    labels = {"a.txt": "0 0.1 0.1 0.2 0.9 0.4 0.3"} if name == "data.yaml" else {}
    began = time.process_time()
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, text, **labels)
    assert time.process_time() - began < 5
    assert name in caught.value.what + caught.value.why
    assert said in caught.value.what + caught.value.why


def test_names_that_are_endless_once_written_out_are_none(tmp_path: Path) -> None:
    found = read(tmp_path, "data.yaml", f"{BOMB}names: *x8", **{"a.txt": "0 0.1 0.1 0.2 0.9 0.4 0.3"})
    assert found.classes == []


def test_names_beside_labels_that_are_damaged(tmp_path: Path) -> None:
    read(tmp_path / "labels", "a.txt", "0 0.1 0.1 0.2 0.9 0.4 0.3")
    (tmp_path / "data.yaml").write_text("names: [a\n")
    with pytest.raises(DataError) as caught:
        read_all(annotation_files(tmp_path / "labels", None), tmp_path / "labels")
    assert f"{tmp_path / 'data.yaml'}: it is no YAML" in caught.value.why


def png(height: int, width: int) -> str:
    file = io.BytesIO()
    Image.new("1", (width, height), 1).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def brush(height: int, width: int) -> list[int]:
    """The head of a brush: so many words, no run."""
    bits = f"{height * width * 4:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16)) + "000"
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def large(size: int) -> list[Callable[[], tuple[str, str]]]:
    """A few bytes of each format that claim a mask of so many pixels a side."""
    whole = {"size": [size, size], "counts": [0, size * size]}
    place = f'left="0" top="0" width="{size}" height="{size}"'
    sides = {"original_width": size, "original_height": size}
    return [
        lambda: ("a.json", coco(segmentation=whole)),
        lambda: ("a.json", labelme(shape_type="mask", points=[[0, 0], [9, 9]], mask=png(size, size))),
        lambda: ("a.xml", cvat(f'<mask label="car" {place} rle="0,{size**2}"/>')),
        lambda: ("a.json", studio({"rle": brush(size, size), "brushlabels": ["car"]}, **sides)),
    ]


@pytest.mark.parametrize("made", large(12_000))
def test_a_mask_larger_than_its_image_is_refused_before_it_is_unpacked(
    made: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    name, text = made()
    tracemalloc.start()
    try:
        found = read(tmp_path, name, text)
        with pytest.raises(ValueError, match=f"12000x12000, its image {WIDTH}x{HEIGHT}"):
            draw(found.images[0], (HEIGHT, WIDTH), ["car", "tree"])
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_png_that_ends_early(tmp_path: Path) -> None:
    text = labelme(shape_type="mask", points=[[0, 0], [9, 9]], mask=png(10, 10)[:-40])
    found = read(tmp_path, "a.json", text)
    with pytest.raises(ValueError, match="its mask is no PNG"):
        draw(found.images[0], (HEIGHT, WIDTH), ["car"])


def test_a_mask_is_where_it_was(tmp_path: Path) -> None:
    """Unpacked when it is drawn, it is what it was when it was unpacked as it was read."""
    found = read(tmp_path, "a.json", labelme(shape_type="mask", points=[[3, 4], [7, 9]], mask=png(6, 5)))
    mask, _ = draw(found.images[0], (HEIGHT, WIDTH), ["car"])
    assert (mask[4:10, 3:8] == 0).all()
    assert (mask != EMPTY).sum() == 30
