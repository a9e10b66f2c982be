"""`prepare_cityscapes` on tiny trees: unpacked or in archives, as PNG or as JPEG, complete or not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from trees import STREETS, cityscapes_ids, cityscapes_tree, packed

from semiseg_cli.core.data.index import manifest
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.cityscapes import LABELS
from semiseg_cli.stages.prepare_cityscapes import prepare_cityscapes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return cityscapes_tree(tmp_path / "there")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def check(data: Dataset, polegroup: int = 255) -> None:
    """All masks hold the 19 classes; what `polegroup` became is said."""
    assert [record.id for record in data.train] == list(STREETS["train"])
    assert [record.id for record in data.val] == list(STREETS["val"]), "test is left out"
    classes = {label.id: label.train_id for label in LABELS} | {18: polegroup}
    for record in (*data.train, *data.val):
        expected = np.vectorize(classes.get)(cityscapes_ids(record.id))
        assert np.array_equal(cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED), expected)
        assert record.pixels == tuple(np.bincount(expected.ravel(), minlength=256)[:19])
        assert cv2.imread(str(record.image)).shape == (record.height, record.width, 3) == (16, 34, 3)


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds", "color"])
@pytest.mark.parametrize("below", [".", "gtFine"])
def test_every_kind_of_labels(root: Path, tmp_path: Path, kind: str, below: str) -> None:
    tree = cityscapes_tree(tmp_path / "there", kind)
    data = prepare_cityscapes(root, source=tree / below)
    check(data, polegroup=5 if kind == "color" else 255)
    assert (data.kind, data.window, len(data.classes)) == ("cityscapes", 801, 19)
    assert data.train[0].image.parent == tree / "leftImg8bit/train/aachen", "images stay where they are"
    assert manifest(data.root)["notes"] == ["Cityscapes has 2,975 train and 500 val images, here 3 and 1"]
    assert prepare_cityscapes(root, source=tree) == prepare_cityscapes(root) == data


def test_ids_count_where_there_are_several_kinds(root: Path, tree: Path) -> None:
    cityscapes_tree(tree, "color")
    check(prepare_cityscapes(root, source=tree))


def test_from_the_archives(root: Path, tree: Path, tmp_path: Path) -> None:
    files = [packed(tree / kind, tmp_path / f"{kind}_trainvaltest.zip") for kind in ("leftImg8bit", "gtFine")]
    shutil.rmtree(tree)
    with pytest.raises(DataError, match="its counterpart gtFine is not") as caught:
        prepare_cityscapes(root, archive=files[:1])
    assert "gtFine_trainvaltest.zip" in caught.value.fix
    data = prepare_cityscapes(root, archive=files)
    check(data)
    assert not list(root.glob("unpacked/*/*/test"))
    assert prepare_cityscapes(root, archive=files) == data
    shutil.rmtree(root / "cityscapes")
    data.train[0].image.unlink()
    with pytest.raises(DataError, match="1 of 3 images are missing"):
        prepare_cityscapes(root, archive=files)
    assert prepare_cityscapes(root, archive=files) == data, "the archive has brought it back"


def test_copies_that_decode_faster(root: Path, tree: Path) -> None:
    data = prepare_cityscapes(root, source=tree, convert="jpg")
    check(data)
    for record in (*data.train, *data.val):
        assert record.image == data.root / "images" / f"{record.id}.jpg"
        original = Image.open(next(tree.rglob(f"{record.id}_leftImg8bit.png")))
        difference = np.array(Image.open(record.image)).astype(int) - np.array(original)
        assert np.abs(difference).mean() < 3
    for more in ({"source": tree}, {"convert": "jpg"}, {}):
        assert prepare_cityscapes(root, **more) == data
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare_cityscapes(root, convert="none")
    assert "convert: jpg there, none here" in caught.value.why


def lose(pattern: str) -> Callable[[Path], None]:
    def remove(tree: Path) -> None:
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose("leftImg8bit/val"), r"leftImg8bit/val holds no \*_leftImg8bit\.png"),
        (lose("gtFine/train"), "labels are missing"),
        (lose("gtFine/train/ulm/ulm_000002*"), "gtFine/train is incomplete: 1 of 3 labels are missing"),
        (lose("leftImg8bit/train/ulm/ulm_000002*"), "leftImg8bit/train is incomplete: 1 of 3 images are missing"),
    ],
)
def test_a_half_unpacked_tree(root: Path, tree: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(tree)
    with pytest.raises(DataError, match=said) as caught:
        prepare_cityscapes(root, source=tree)
    assert "gtFine_trainvaltest.zip" in caught.value.fix
    assert not (root / "cityscapes").exists()


def test_a_tree_with_polygons_alone(root: Path, tree: Path) -> None:
    for label in tree.glob("gtFine/*/*/*.png"):
        label.with_name(label.name.replace("labelIds.png", "polygons.json")).write_text("{}")
        label.unlink()
    with pytest.raises(DataError, match="3 of 3 labels are missing") as caught:
        prepare_cityscapes(root, source=tree)
    assert "_gtFine_polygons.json holds polygons in Cityscapes' form, and no pixels" in caught.value.fix
    assert f"CITYSCAPES_DATASET={tree} csCreateTrainIdLabelImgs" in caught.value.fix


def test_an_image_of_train_and_val(root: Path, tree: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        shutil.copytree(tree / kind / "val", tree / kind / "train", dirs_exist_ok=True)
    with pytest.raises(DataError, match="1 image in train and in val") as caught:
        prepare_cityscapes(root, source=tree)
    assert caught.value.why == "lindau_000000_000019"


def test_files_that_cannot_be_used(root: Path, tree: Path) -> None:
    label = tree / "gtFine/train/ulm/ulm_000002_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((16, 34), 34, np.uint8)).save(label)
    with pytest.raises(DataError, match="outside the 19 classes") as caught:
        prepare_cityscapes(root, source=tree)
    assert "34 (544 pixels)" in caught.value.why
    assert str(label) in caught.value.why
    image = tree / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"
    image.write_bytes(image.read_bytes()[:-60])
    with pytest.raises(DataError, match="1 file cannot be used"):
        prepare_cityscapes(root, source=tree)
    assert os.listdir(root) == ["cityscapes"]
    assert not (root / "cityscapes" / "dataset.toml").exists()


def test_without_data_the_way_to_it_is_told(root: Path, tmp_path: Path) -> None:
    for more in ({}, {"source": tmp_path}):
        with pytest.raises(DataError, match="Cityscapes is not at hand") as caught:
            prepare_cityscapes(root, **more)
        assert "https://www.cityscapes-dataset.com/register/" in caught.value.fix
        for way in ("", " --source DIR", " --archive leftImg8bit_trainvaltest.zip"):
            assert f"semiseg prepare cityscapes --root {root}{way}" in caught.value.fix


def test_a_form_that_does_not_exist(root: Path) -> None:
    with pytest.raises(UsageError, match="--convert webp"):
        prepare_cityscapes(root, convert="webp")
