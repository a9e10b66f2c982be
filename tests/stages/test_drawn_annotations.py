"""Annotations as masks: what was written comes back, every format gives the same, and what is wrong is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError, SemisegError, UsageError
from semiseg_cli.core.sources.told import Told
from semiseg_cli.stages.annotating import annotating
from semiseg_cli.stages.prepare import notes, prepare_folder
from semiseg_cli.stages.update import update_folder

NAMES = ["background", "car", "tree"]
PALETTE = [(0, 0, 0), (200, 0, 0), (0, 200, 0)]
FORMATS = ["coco", "labelme", "cvat", "yolo"]
SIZE = (60, 80)


def scene(seed: int) -> np.ndarray:
    """A ring of class 1 with class 2 in its hole, somewhere."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    away = np.hypot(y - 25 - 3 * seed, x - 30 - 5 * seed)
    return np.select([away < 6, away < 12, away < 26], [2, 0, 1], 0).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "street").mkdir(parents=True)
    for number, id in enumerate(("a", "street/b", "street/c.d")):
        noise = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{id}.jpg")
    return folder


def write(folder: Path, photos: Path, format: str, names: list[str] = NAMES, tolerance: float = 0) -> Path:
    with annotating(folder / format, format, names, PALETTE, tolerance) as annotate:
        for number, id in enumerate(("a", "street/b", "street/c.d")):
            annotate(f"{id}.jpg", photos / f"{id}.jpg", scene(number))
    return folder / format


def prepared(tmp_path: Path, photos: Path, masks: Path, **more: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The dataset, and its masks by id."""
    dataset = prepare_folder(tmp_path / "data", name=more.pop("name", "x"), labeled=photos, masks=masks, **more)
    records = [*dataset.labeled, *dataset.val]
    return dataset, {record.id: np.array(Image.open(str(record.mask))) for record in records}


def classes(tmp_path: Path, *names: str) -> Path:
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "classes.txt"


@pytest.mark.parametrize("format", FORMATS)
def test_out_and_in_again_is_the_same(photos: Path, tmp_path: Path, format: str) -> None:
    dataset, masks = prepared(tmp_path, photos, write(tmp_path, photos, format))
    assert dataset.classes == tuple(NAMES)
    for number, id in enumerate(("a", "street/b", "street/c.d")):
        assert np.array_equal(masks[id], scene(number))
    said = " ".join(notes(dataset))
    assert "lie in no shape: class 0, 'background'" in said
    assert "not read" not in said
    assert not (dataset.root / "drawn").exists()
    assert prepare_folder(tmp_path / "data", name="x", labeled=photos, masks=tmp_path / format).root == dataset.root


def test_at_a_tolerance_of_one_little_changes(photos: Path, tmp_path: Path) -> None:
    _, masks = prepared(tmp_path, photos, write(tmp_path, photos, "labelme", tolerance=1))
    assert 0 < np.mean([(masks["a"] != scene(0)).mean(), (masks["street/b"] != scene(1)).mean()]) < 0.005


def test_a_classes_file_decides_about_order_and_what_counts(photos: Path, tmp_path: Path) -> None:
    folder = write(tmp_path, photos, "cvat")
    with pytest.raises(DataError, match="labels of no class") as caught:
        prepared(tmp_path, photos, folder, classes=classes(tmp_path, "Tree", "road"))
    assert "'car'" in caught.value.why
    dataset, masks = prepared(tmp_path, photos, folder, classes=classes(tmp_path, "Tree", "Car"))
    assert dataset.classes == ("Tree", "Car")
    wanted = np.array([255, 1, 0], np.uint8)[scene(0)]
    assert np.array_equal(masks["a"], wanted)
    assert "count nowhere, for no class is called background" in " ".join(notes(dataset))
    with pytest.raises(DataError, match="the labeled pixels are 'car'") as caught:
        prepared(tmp_path, photos, folder, name="z", classes=classes(tmp_path, "car", "x"), told=Told(unknown="ignore"))
    assert "a class called background" in caught.value.fix
    with pytest.raises(UsageError, match="how pixels of masks are read"):
        prepared(tmp_path, photos, folder, name="y", told=Told(first=1))


def test_an_update_takes_new_annotations(photos: Path, tmp_path: Path) -> None:
    folder = write(tmp_path, photos, "labelme")
    kept = (folder / "street" / "b.json").read_bytes()
    (folder / "street" / "b.json").unlink()
    dataset, _ = prepared(tmp_path, photos, folder)
    assert len([*dataset.labeled, *dataset.val]) == 2
    assert "1 image in photos without a mask: part of the unlabeled pool: street/b" in " ".join(
        notes(dataset)
    ).replace(f"{photos.parent}/", "")
    assert update_folder(tmp_path / "data", name="x")[1] == ["nothing changed in the folders of x"]
    (folder / "street" / "b.json").write_bytes(kept)
    dataset, said = update_folder(tmp_path / "data", name="x")
    assert {record.id for record in (*dataset.labeled, *dataset.val)} == {"a", "street/b", "street/c.d"}
    assert "1 image with a mask now: street/b" in " ".join(said)
    assert dataset.classes == tuple(NAMES)
    other = (folder / "a.json").read_text().replace('"tree"', '"bush"')
    (folder / "a.json").write_text(other)
    with pytest.raises(DataError, match="labels of no class") as caught:
        update_folder(tmp_path / "data", name="x")
    assert "'bush' (1 shape); the classes are background, car, tree" in caught.value.why
    assert "a new --name" in caught.value.fix


def test_json_beside_the_photos(photos: Path, tmp_path: Path) -> None:
    write(tmp_path, photos, "labelme")
    for path in (tmp_path / "labelme").rglob("*.json"):
        path.rename(photos / path.relative_to(tmp_path / "labelme"))
    dataset, masks = prepared(tmp_path, photos, photos)
    assert np.array_equal(masks["street/b"], scene(1))
    assert "not read" not in " ".join(notes(dataset))


def test_labelmap_beside_pascals_masks(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "SegmentationClass" / "street").mkdir(parents=True)
    rows = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in zip(NAMES, PALETTE, strict=True))
    (folder / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{rows}")
    for number, id in enumerate(("a", "street/b", "street/c.d")):
        colours = np.array(PALETTE, np.uint8)[scene(number)]
        Image.fromarray(colours).save(folder / "SegmentationClass" / f"{id}.png")
    dataset, masks = prepared(tmp_path, photos, folder)
    assert dataset.classes == tuple(NAMES)
    assert np.array_equal(masks["a"], scene(0))


def test_a_turned_photo_is_drawn_as_it_is_shown(photos: Path, tmp_path: Path) -> None:
    folder = write(tmp_path, photos, "coco")
    with Image.open(photos / "a.jpg") as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned.save(photos / "a.jpg", exif=exif)
    assert turned.size == SIZE
    _, masks = prepared(tmp_path, photos, folder)
    assert np.array_equal(masks["a"], scene(0))


def coco(folder: Path, annotations: list[Any], **image: Any) -> Path:
    folder.mkdir(exist_ok=True)
    images = [{"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1], **image}]
    categories = [{"id": 3, "name": "car"}, {"id": 1, "name": "tree"}]
    table = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "x.json").write_text(json.dumps(table))
    return folder


def annotation(outline: Any, **more: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 7, "category_id": 3, "segmentation": outline, "bbox": [0, 0, 9, 9], **more}


SQUARE = [[10, 10, 30, 10, 30, 40, 10, 40]]


@pytest.mark.parametrize(
    ("annotations", "image", "said"),
    [
        ([annotation(SQUARE)], {"width": 81}, "a.jpg is 80x60, its annotation in"),
        ([annotation(SQUARE)], {"file_name": "z.jpg"}, "named like an image"),
        ([annotation(SQUARE, category_id=9)], {}, "annotation 5: there is no category 9"),
        ([annotation(SQUARE, image_id=8)], {}, "annotation 5: there is no image 8"),
        ([annotation({"size": [60, 80], "counts": [60 * 80 - 1]})], {}, "its runs cover 4,799 pixels, not 60x80"),
        ([annotation({"size": [60, 80], "counts": [60 * 80 + 1]})], {}, "its runs cover 4,801 pixels"),
        ([annotation({"size": [50, 80], "counts": [50 * 80]})], {}, "its mask is 80x50, its image 80x60"),
        ([annotation([[1, 2, 3]])], {}, "are no corners"),
        ([annotation([])], {}, "holds boxes of COCO, and no outlines 1 boxes without an outline"),
        ([annotation([[]])], {}, "holds boxes of COCO, and no outlines"),
        ([annotation([[1, 1, 9, 9]])], {}, "holds boxes of COCO, and no outlines"),
        ([annotation(None, bbox=None)], {}, "holds no outlines 1 without an outline or a box"),
        ([], {}, "holds no outlines 1 image, and no shape in any"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told(
    photos: Path, tmp_path: Path, annotations: list[Any], image: dict[str, Any], said: str
) -> None:
    with pytest.raises(SemisegError) as caught:
        prepared(tmp_path, photos, coco(tmp_path / "c", annotations, **image))
    assert said in f"{caught.value.what} {caught.value.why}"
    assert caught.value.fix
    assert not list((tmp_path / "data").iterdir())


def test_what_can_be_left_out_is_said(photos: Path, tmp_path: Path) -> None:
    folder = write(tmp_path, photos, "coco")
    table = json.loads((folder / "annotations.json").read_text())
    first = table["images"][0]["id"]
    kinds = {
        "two corners": [[1, 1, 5, 5, 1, 1]], "outside": [[100, 1, 120, 1, 110, 9]], "over it": SQUARE, "box": [],
        "empty": [[]],
    }  # fmt: skip
    for number, outline in enumerate(kinds.values()):
        more = {"id": 100 + number, "image_id": first, "category_id": 3, "segmentation": outline}
        table["annotations"].append({**more, "bbox": [70, 10 * number + 15, 5, 5], "iscrowd": 0})
    table["images"] += [{**table["images"][0], "id": 90, "file_name": "gone.jpg"}]
    (folder / "annotations.json").write_text(json.dumps(table))
    dataset, masks = prepared(tmp_path, photos, folder)
    said = " ".join(notes(dataset))
    for words in ("1 of fewer than three corners", "1 outside of the image", "overlap in 1 image:", "gone.jpg"):
        assert words in said
    wanted = scene(0)
    wanted[10:40, 10:30] = 2
    wanted[45:50, 70:75] = wanted[55:60, 70:75] = 255  # the boxes of what has no outline
    assert np.array_equal(masks["a"], wanted)


def test_several_formats_in_one_folder(photos: Path, tmp_path: Path) -> None:
    folder = coco(tmp_path / "c", [annotation(SQUARE)])
    (folder / "street").mkdir()
    write(tmp_path, photos, "labelme")
    (tmp_path / "labelme" / "a.json").rename(folder / "a.json")
    with pytest.raises(DataError, match="several formats") as error:
        prepared(tmp_path, photos, folder)
    assert "into a folder for each format" in error.value.fix


def test_entities_are_refused(photos: Path, tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotations>&b;</annotations>'
    (tmp_path / "c.xml").write_text(bomb)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, photos, tmp_path / "c.xml")
    assert "document type" in caught.value.why
