"""The same shapes in every format are the same pixels, and run lengths are what pycocotools says."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from pycocotools import mask as reference

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.polygons import rle
from semiseg_cli.core.sources.polygons.drawing import EMPTY, draw
from semiseg_cli.core.sources.polygons.files import annotation_files, read_all
from semiseg_cli.core.sources.polygons.matching import match
from semiseg_cli.core.sources.polygons.shapes import Annotated

HEIGHT, WIDTH = 40, 50
CAR = [(4.2, 3.1), (33.7, 6.4), (28.3, 30.9), (8.6, 24.3)]
TREE = [(20.3, 10.2), (45.9, 17.7), (24.1, 36.8)]
NAMES = ["car", "tree"]


@pytest.fixture
def wanted() -> np.ndarray:
    """By Shapely: the tree lies over the car."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    mask = np.full((HEIGHT, WIDTH), EMPTY, np.uint8)
    for index, corners in enumerate((CAR, TREE)):
        mask[shapely.contains_xy(shapely.Polygon(corners), x, y)] = index
    return mask


def coco() -> dict[str, str]:
    rows = [
        {"id": k, "image_id": 1, "category_id": 5 - k, "segmentation": [np.ravel(corners).tolist()], "iscrowd": k}
        for k, corners in enumerate((CAR, TREE))
    ]
    table = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}], "annotations": rows,
        "categories": [{"id": 4, "name": "tree"}, {"id": 5, "name": "car"}],
    }  # fmt: skip
    return {"instances.json": json.dumps(table)}


def labelme() -> dict[str, str]:
    shapes = [
        {"label": name, "points": corners, "shape_type": "polygon"}
        for name, corners in zip(NAMES, (CAR, TREE), strict=True)
    ]
    table = {"shapes": shapes, "imagePath": "..\\photos\\a.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"a.json": json.dumps(table)}


def cvat() -> dict[str, str]:
    """The tree stands first in the file, and higher."""
    words = [";".join(f"{x},{y}" for x, y in corners) for corners in (CAR, TREE)]
    polygons = [f'<polygon label="{NAMES[k]}" points="{words[k]}" z_order="{k}"/>' for k in (1, 0)]
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    image = f'<image id="0" name="photos\\a.jpg" width="{WIDTH}" height="{HEIGHT}">{"".join(polygons)}</image>'
    return {"annotations.xml": f"<annotations><meta><job><labels>{labels}</labels></job></meta>{image}</annotations>"}


def yolo() -> dict[str, str]:
    lines = [
        f"{k} " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners) for k, corners in enumerate((CAR, TREE))
    ]
    return {"labels/a.txt": "\n".join(lines), "data.yaml": "names: [car, tree]\nnc: 2\n"}


def region(corners: list[tuple[float, float]], name: str, **more: Any) -> dict[str, Any]:
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners]
    value = {"points": points, "polygonlabels": [name]}
    return {"original_width": WIDTH, "original_height": HEIGHT, **more, "value": value}


def labelstudio() -> dict[str, str]:
    result = [region(corners, name, type="polygonlabels") for corners, name in zip((CAR, TREE), NAMES, strict=True)]
    cancelled = {"was_cancelled": True, "result": [region(TREE, "car")]}
    annotations = [cancelled, {"was_cancelled": False, "result": result}]
    return {
        "x.json": json.dumps(
            [{"id": 3, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": annotations}]
        )
    }


def labelstudio_min() -> dict[str, str]:
    rows = [region(corners, name) for corners, name in zip((CAR, TREE), NAMES, strict=True)]
    rows = [{key: value for key, value in row.items() if key != "value"} | row["value"] for row in rows]
    return {"x.json": json.dumps([{"image": "/data/upload/0123abcd-a.jpg", "annotation_id": 1, "label": rows}])}


def drawn(folder: Path, files: dict[str, str]) -> tuple[list[str], np.ndarray]:
    written(folder, files)
    found = read_all(annotation_files(folder, None), folder)
    matched, lone = match(found.images, ["a", "b"])
    assert not lone
    return sorted(found.classes), draw(matched["a"], (HEIGHT, WIDTH), NAMES)[0]


@pytest.mark.parametrize("files", [coco, labelme, cvat, yolo, labelstudio, labelstudio_min])
def test_every_format_gives_the_same(files: Callable[[], dict[str, str]], wanted: np.ndarray, tmp_path: Path) -> None:
    classes, mask = drawn(tmp_path, files())
    assert classes == NAMES
    assert np.array_equal(mask, wanted)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_numbers_of_yolo_are_what_its_own_file_names(tmp_path: Path, wanted: np.ndarray) -> None:
    """Whatever the order of the classes that are asked for; and so in an export whose names lie two folders up."""
    lines = yolo()["labels/a.txt"]
    written(tmp_path, {"data.yaml": "names: [car, tree]\n", "train/labels/a.txt": f"7 0 0 1 0 1 1\n{lines}\n"})
    found = read_all(annotation_files(tmp_path / "train" / "labels", None), tmp_path / "train" / "labels")
    mask, tally = draw(found.images[0], (HEIGHT, WIDTH), ["tree", "car", *"cdefgh"])
    assert tally.unknown == {"7": 1}
    assert np.array_equal(mask[wanted != EMPTY], 1 - wanted[wanted != EMPTY])


def test_what_lies_beside_yolos_files(tmp_path: Path, wanted: np.ndarray) -> None:
    """Label Studio exports notes with them; photos are no masks."""
    files = yolo() | {"notes.json": '{"categories": [], "info": {}}', "classes.txt": "car\ntree\n"}
    assert np.array_equal(drawn(tmp_path, files)[1], wanted)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png")
    assert annotation_files(tmp_path, None) == ()
    found = read_all(annotation_files(tmp_path, tmp_path / "images"), tmp_path)
    assert [path.name for path in found.strange] == ["notes.json"]
    assert np.array_equal(draw(found.images[0], (HEIGHT, WIDTH), NAMES)[0], wanted)


def test_formats_that_are_mixed(tmp_path: Path, wanted: np.ndarray) -> None:
    for number, files in enumerate((labelme() | {"b.txt": ""}, cvat() | {"x.yaml": "names: [a, b]"})):
        assert np.array_equal(drawn(tmp_path / str(number), files)[1], wanted)  # an empty file says nothing
    for number, files in enumerate((labelme() | yolo(), cvat() | yolo(), coco() | labelstudio())):
        with pytest.raises(DataError, match="several formats"):
            drawn(tmp_path / f"mixed{number}", files)


@pytest.mark.parametrize(
    ("address", "photo"),
    [
        ("/data/local-files/?d=my%20photos/x/a.jpg", "x/a"), ("s3://bucket/x/a.jpg?token=b.c", "x/a"),
        ("/data/upload/1/0123abcd-b.jpg", "b"), ("photos\\x\\a.jpg", "x/a"), ("feedcafe-a.jpg", "feedcafe-a"),
    ],
)  # fmt: skip
def test_the_photo_of_a_task(address: str, photo: str, tmp_path: Path) -> None:
    (task,) = json.loads(labelstudio()["x.json"])
    task["data"] = {"by": "Dr. Who", "image": address}
    written(tmp_path, {"x.json": json.dumps([task])})
    found = read_all(annotation_files(tmp_path, None), tmp_path)
    assert list(match(found.images, ["b", "x/a", "y/a", "feedcafe-a"])[0]) == [photo]


def blob(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)).cumsum(0).cumsum(1) % 90 < 40


@pytest.mark.parametrize("seed", range(3))
def test_cocos_runs_packed_and_not(seed: int) -> None:
    wanted = blob(seed)
    packed = reference.encode(np.asfortranarray(wanted.astype(np.uint8)))
    counts = rle.unpacked(packed["counts"].decode())
    assert np.array_equal(rle.runs(counts, HEIGHT, WIDTH, columns=True), wanted)
    plain = reference.frPyObjects({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
    assert np.array_equal(reference.decode(plain), wanted)


def test_packed_runs_that_are_long() -> None:
    wide = np.zeros((700, 900), np.uint8)
    wide[:, 400:800] = 1
    wide[300:, 850:] = 1
    counts = rle.unpacked(reference.encode(np.asfortranarray(wide))["counts"].decode())
    assert np.array_equal(rle.runs(counts, 700, 900, columns=True), wide)


@pytest.mark.parametrize("counts", [[5], [-1, 2001], [HEIGHT * WIDTH + 1], []])
def test_runs_of_another_length_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="not 40x50"):
        rle.runs(counts, HEIGHT, WIDTH, columns=True)
    with pytest.raises(ValueError, match="letter"):
        rle.unpacked("a b")


def packed_bits(values: np.ndarray) -> list[int]:
    """Label Studio's runs of bytes, written by its rules: repeats of up to 2,048, and words as they are of up to 8."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 11))
    place = 0
    while place < len(values):
        run = 1
        while run < 2048 and place + run < len(values) and values[place + run] == values[place]:
            run += 1
        if run > 1:
            bits += f"1{3:02b}{run - 1:011b}{values[place]:08b}"
        else:
            run = min(5, len(values) - place)
            bits += f"0{0:02b}{run - 1:03b}" + "".join(f"{value:08b}" for value in values[place : place + run])
        place += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_the_brush_of_label_studio(tmp_path: Path) -> None:
    wanted = blob()
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[wanted] = (1, 2, 3, 255)
    data = packed_bits(rgba.ravel())
    assert np.array_equal(rle.brushed(data, HEIGHT, WIDTH), wanted)
    for broken in (data[: len(data) // 2], data[:3], packed_bits(rgba[:20].ravel())):
        with pytest.raises(ValueError, match="its runs"):
            rle.brushed(broken, HEIGHT, WIDTH)
    value = {"format": "rle", "rle": data, "brushlabels": ["tree"]}
    result = [{"type": "brushlabels", "original_width": WIDTH, "original_height": HEIGHT, "value": value}]
    tasks = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": result}]}]
    assert np.array_equal(drawn(tmp_path, {"x.json": json.dumps(tasks)})[1], np.where(wanted, 1, EMPTY))


@pytest.mark.parametrize("format", ["labelme", "cvat"])
def test_a_mask_within_a_box(format: str, tmp_path: Path) -> None:
    small = blob()[:9, :12]
    wanted = np.full((HEIGHT, WIDTH), EMPTY, np.uint8)
    wanted[20:29, 30:42][small] = 1
    if format == "labelme":
        file = io.BytesIO()
        Image.fromarray(small.astype(np.uint8) * 255).save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        shape = {"label": "tree", "shape_type": "mask", "points": [[30, 20], [41, 28]], "mask": data}
        files = {"a.json": json.dumps({"shapes": [shape], "imageHeight": HEIGHT, "imageWidth": WIDTH})}
    else:
        flat = small.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int)))
        counts = np.diff(np.concatenate([[0], edges]))
        box = f'left="30" top="20" width="12" height="9" rle="{", ".join(map(str, counts))}"'
        image = f'<image name="a.jpg" width="{WIDTH}" height="{HEIGHT}"><mask label="tree" {box}/></image>'
        files = {"a.xml": f"<annotations>{image}</annotations>"}
    assert np.array_equal(drawn(tmp_path, files)[1], wanted)


def test_boxes_and_circles_that_people_draw(tmp_path: Path) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    wanted = np.where(np.hypot(x - 25, y - 20) < 9.03, 1, EMPTY)
    shape = {"label": "tree", "shape_type": "circle", "points": [[25, 20], [25, 20 + 9.03]]}
    line = {"label": "tree", "shape_type": "line", "points": [[1, 1], [9, 9]]}
    table = {"shapes": [shape, line], "imageHeight": HEIGHT, "imageWidth": WIDTH}
    assert np.array_equal(drawn(tmp_path / "l", {"a.json": json.dumps(table)})[1], wanted)
    half = math.sqrt(0.5)
    corners = [
        (25 + 8 * a * half - 5 * b * half, 20 + 8 * a * half + 5 * b * half)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    inside = shapely.contains_xy(shapely.Polygon(corners), x, y)
    box = '<box label="car" xtl="17" ytl="15" xbr="33" ybr="25" rotation="45"/><points label="car" points="1,1"/>'
    image = f'<image name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{box}</image>'
    mask = drawn(tmp_path / "c", {"a.xml": f"<annotations>{image}</annotations>"})[1]
    assert np.array_equal(mask, np.where(inside, 0, EMPTY))


def test_shapes_of_labelme_that_are_turned_or_broken(tmp_path: Path) -> None:
    shape = {"label": "tree", "shape_type": "oriented_rectangle", "points": TREE[:2] + CAR[2:]}
    table = {"shapes": [shape], "imageHeight": HEIGHT, "imageWidth": WIDTH}
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = shapely.contains_xy(shapely.Polygon(shape["points"]), x, y)
    assert np.array_equal(drawn(tmp_path / "a", {"a.json": json.dumps(table)})[1], np.where(inside, 1, EMPTY))
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    for number, data in enumerate((file.getvalue()[:30], file.getvalue()[:42], b"GIF89a", b"")):
        mask = {"label": "tree", "shape_type": "mask", "points": [[3, 3], [6, 6]]}
        table["shapes"] = [shape, mask | {"mask": base64.b64encode(data).decode()}]
        with pytest.raises(ValueError, match=r"mask is no PNG|cannot be used") as caught:  # the latter as it is read
            drawn(tmp_path / str(number), {"a.json": json.dumps(table)})
        assert "its mask is no PNG" in f"{caught.value} {getattr(caught.value, 'why', '')}"


@pytest.mark.parametrize(
    "points", [[[1, 2], [3]], [[1, 2, 3]], "corners", [["a", "b"]], None, [[1, 2], [3, None]], [1e9, 2]]
)
def test_what_is_no_corner(points: Any, tmp_path: Path) -> None:
    table = {"shapes": [{"label": "tree", "points": points}], "imageHeight": HEIGHT, "imageWidth": WIDTH}
    with pytest.raises(DataError) as caught:
        drawn(tmp_path, {"a.json": json.dumps(table)})
    assert "a.json: shape 0: " in caught.value.why
    assert "are no corners" in caught.value.why


def image(*names: str) -> Annotated:
    return Annotated(names, None, (), Path("x.json"))


def test_photos_are_found_by_the_end_of_their_paths() -> None:
    photos = ["train/a", "val/a", "b", "c.d"]
    found, lone = match([image("images/train/a.jpg"), image("/home/x/b.PNG"), image("c.d"), image("e.jpg")], photos)
    assert {id: each.names[0] for id, each in found.items()} == {
        "train/a": "images/train/a.jpg", "b": "/home/x/b.PNG", "c.d": "c.d",
    }  # fmt: skip
    assert lone == ["e.jpg"]
    with pytest.raises(DataError, match="fits several photos"):
        match([image("a.jpg")], photos)
    with pytest.raises(DataError, match="annotated twice"):
        match([image("b.jpg"), image("b.png")], photos)
    assert match([image("old", "b.jpg")], photos)[0]["b"].names[0] == "old"


def test_a_folder_of_masks_holds_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("drawn by Ann\n")
    assert annotation_files(tmp_path, None) == ()
    (tmp_path / "a.json").write_text("{}")
    assert annotation_files(tmp_path, None)[0] == tmp_path / "a.json"
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert annotation_files(tmp_path, None) == ()
