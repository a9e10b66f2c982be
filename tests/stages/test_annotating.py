"""Label maps written as annotations, opened by what is not ours: pycocotools, Pillow's polygons, an XML parser."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.stages.annotating import annotating

NAMES = ["background", 'car "A" & <B>', "träd"]
PALETTE = [(0, 0, 0), (128, 64, 1), (0, 200, 0)]


@pytest.fixture
def labels() -> np.ndarray:
    """A ring of one class with another class in its hole, which touches the image's border."""
    y, x = np.mgrid[:60, :80]
    away = np.hypot(y - 30, x - 40)
    labels = np.where((away < 26) & (away > 12), 1, 0).astype(np.uint8)
    labels[away < 6] = 2
    labels[50:, :20] = 2
    return labels


def write(folder: Path, format: str, labels: np.ndarray, names: list[str] = NAMES, tolerance: float = 0) -> Path:
    with annotating(folder / format, format, names, PALETTE, tolerance) as annotate:
        annotate("street/a.jpg", folder / "photos" / "street" / "a.jpg", labels)
        annotate("b.jpg", folder / "photos" / "b.jpg", np.zeros_like(labels))
    return folder / format


def painted(polygons: list[tuple[int, list[tuple[float, float]]]]) -> np.ndarray:
    """Drawn by Pillow in eight times the size, so that its way with borders hardly counts."""
    image = Image.new("L", (80 * 8, 60 * 8))
    for label, points in polygons:
        ImageDraw.Draw(image).polygon([(x * 8, y * 8) for x, y in points], fill=label)
    return np.array(image)[4::8, 4::8]


def test_coco_as_pycocotools_decodes_it(labels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(str(write(tmp_path, "coco", labels) / "annotations.json"))
    assert [(each["id"], each["name"]) for each in coco.dataset["categories"]] == [(2, NAMES[1]), (3, NAMES[2])]
    assert [(each["file_name"], each["height"], each["width"]) for each in coco.imgs.values()] == [
        ("street/a.jpg", 60, 80), ("b.jpg", 60, 80),
    ]  # fmt: skip
    assert not coco.imgToAnns[2]
    mask = np.zeros((60, 80), np.uint8)
    for annotation in coco.imgToAnns[1]:
        pixels = coco.annToMask(annotation)
        mask[pixels == 1] = annotation["category_id"] - 1
    assert (mask != labels).mean() < 0.03  # pycocotools rounds outlines to pixels of its own
    assert sum(each["area"] for each in coco.imgToAnns[1]) == (labels > 0).sum()


def test_labelme_finds_its_photo_and_draws_the_same(labels: np.ndarray, tmp_path: Path) -> None:
    folder = write(tmp_path, "labelme", labels)
    table = json.loads((folder / "street" / "a.json").read_text())
    assert (folder / "street" / table["imagePath"]).resolve() == (tmp_path / "photos" / "street" / "a.jpg").resolve()
    assert (table["imageHeight"], table["imageWidth"], table["imageData"]) == (60, 80, None)
    assert {shape["shape_type"] for shape in table["shapes"]} == {"polygon"}
    polygons = [(NAMES.index(shape["label"]), shape["points"]) for shape in table["shapes"]]
    assert np.array_equal(painted(polygons), labels)
    assert (folder / "labels.txt").read_text().splitlines() == ["__ignore__", *NAMES[1:]]
    assert json.loads((folder / "b.json").read_text())["shapes"] == []


def test_cvat_with_names_that_need_escaping(labels: np.ndarray, tmp_path: Path) -> None:
    root = ElementTree.parse(write(tmp_path, "cvat", labels) / "annotations.xml").getroot()
    found = [(each.findtext("name"), each.findtext("color")) for each in root.iter("label")]
    assert found == [(NAMES[1], "#804001"), (NAMES[2], "#00c800")]
    images = list(root.iter("image"))
    assert [image.get("name") for image in images] == ["street/a.jpg", "b.jpg"]
    polygons = [
        (
            NAMES.index(each.get("label", "")),
            [tuple(map(float, p.split(","))) for p in each.get("points", "").split(";")],
        )
        for each in images[0]
    ]
    assert np.array_equal(painted(polygons), labels)


def test_yolo_counts_its_classes_from_zero(labels: np.ndarray, tmp_path: Path) -> None:
    folder = write(tmp_path, "yolo", labels)
    assert yaml.safe_load((folder / "data.yaml").read_text())["names"] == {0: NAMES[1], 1: NAMES[2]}
    polygons = []
    for line in (folder / "labels" / "street" / "a.txt").read_text().splitlines():
        place, *numbers = line.split()
        points = np.array(numbers, float).reshape(-1, 2) * (80, 60)
        polygons.append((int(place) + 1, list(map(tuple, points.round(3)))))
    assert np.array_equal(painted(polygons), labels)
    assert (folder / "labels" / "b.txt").read_text() == ""


def test_ultralytics_finds_the_photos_beside_the_labels(labels: np.ndarray, tmp_path: Path) -> None:
    """It looks for `train` beside data.yaml if that has no `path`; for labels where `images` is in a photo's path."""
    (tmp_path / "photos" / "street").mkdir(parents=True)
    Image.new("RGB", (80, 60), (7, 8, 9)).save(tmp_path / "photos" / "street" / "a.jpg")
    for _ in range(2):  # what is there already is written anew
        folder = write(tmp_path, "yolo", labels)
    table = yaml.safe_load((folder / "data.yaml").read_text())
    assert "path" not in table
    photo = folder / table["train"] / "street" / "a.jpg"
    assert photo.read_bytes() == (tmp_path / "photos" / "street" / "a.jpg").read_bytes()
    assert Path(str(photo).replace("/images/", "/labels/")).with_suffix(".txt").is_file()


def test_photos_are_copied_where_there_are_no_links(
    labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError("no links here")

    for name in ("street/a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())
    monkeypatch.setattr(Path, "symlink_to", refuse)
    copied = write(tmp_path, "yolo", labels) / "images" / "street" / "a.jpg"
    assert (copied.is_symlink(), copied.read_bytes()) == (False, b"street/a.jpg")


def test_without_a_background_every_pixel_is_in_a_polygon(labels: np.ndarray, tmp_path: Path) -> None:
    names = ["road", "car", "tree"]
    table = json.loads((write(tmp_path, "coco", labels, names) / "annotations.json").read_text())
    first = [each for each in table["annotations"] if each["image_id"] == 1]
    assert sum(each["area"] for each in first) == 60 * 80
    assert {each["category_id"] for each in first} == {1, 2, 3}


def test_nothing_is_left_where_something_goes_wrong(labels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unpack"), annotating(tmp_path / "c", "coco", NAMES, PALETTE) as annotate:
        annotate("a.jpg", tmp_path / "a.jpg", labels[0])
    assert list((tmp_path / "c").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write annotations"):
        write(tmp_path / "file", "cvat", labels)
    with pytest.raises(UsageError):
        write(tmp_path, "voc", labels)
