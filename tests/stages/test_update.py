"""A dataset grows: what came joins, what went leaves, the validation set and what still fits stay, and all is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.again import anew
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.told import Told
from semiseg_cli.stages.check import check
from semiseg_cli.stages.prepare import prepare_folder
from semiseg_cli.stages.split import make_split
from semiseg_cli.stages.update import on_disk, update_folder

SIZE = (20, 26)


def save(path: Path, seed: int, mask: bool = False) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 3, SIZE, np.uint8) if mask else rng.integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label(base: Path, id: str, seed: int) -> None:
    save(base / "photos" / f"{id}.png", seed)
    save(base / "masks" / f"{id}.png", seed, mask=True)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Ten labeled photos, of which two are held out, and three without labels, prepared as `mine`."""
    for i in range(10):
        label(tmp_path, f"l{i}", i)
    for i in range(3):
        save(tmp_path / "more" / f"u{i}.png", 100 + i)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    prepare_folder(**given(tmp_path))
    return tmp_path


def given(base: Path) -> dict[str, Any]:
    return {
        "root": base / "data", "name": "mine", "labeled": base / "photos", "masks": base / "masks",
        "unlabeled": base / "more", "classes": base / "classes.txt", "long_side": 24,
    }  # fmt: skip


def ids(records: Any) -> set[str]:
    return {record.id for record in records}


def test_what_came_joins_and_the_validation_set_stays(base: Path) -> None:
    before = load_dataset(base / "data", "mine")
    make_split(base / "data", "mine", "3")
    label(base, "new", 50)
    save(base / "more" / "u3.png", 103)
    save(base / "masks" / "u0.png", 1, mask=True)  # a photo of the pool is labeled now
    shutil.move(base / "more" / "u0.png", base / "photos" / "u0.png")
    (base / "more" / "u1.png").unlink()
    (base / "classes.txt").unlink()  # its copy is with the dataset
    after, said = update_folder(base / "data", name="mine")
    assert after.val == before.val
    assert ids(after.labeled) == ids(before.labeled) | {"new", "u0"}
    assert ids(after.train) - ids(after.labeled) == {"u2", "u3"}
    for record in (*after.train, *after.val):
        assert record.image.is_file()
        assert record.width == 24
        assert record.mask is None or record.mask.is_file()
    assert said[:5] == [
        "1 new images with a mask: new", "1 new images without: u3", "1 images that have a mask now: u0",
        "1 images that are gone: u1", "the validation set is the same: 2 images",
    ]  # fmt: skip
    assert [path.name for path in (base / "data").iterdir()] == ["mine"]
    assert (base / "data" / "mine" / "splits" / "3-classes-s0" / "labeled.txt").is_file()
    assert update_folder(base / "data", name="mine")[1] == ["nothing changed in the folders of mine"]
    (base / "classes.txt").write_text("a\nb\nc\n")
    assert prepare_folder(**given(base)) == after  # the same command finds it ready


def test_splits_that_fit_stay_and_others_are_named(base: Path) -> None:
    split = make_split(base / "data", "mine", "3")
    save(base / "more" / "u3.png", 103)
    _, said = update_folder(base / "data", name="mine")
    assert "1 splits stay as they are, without the new images: 3-classes-s0" in said
    gone = split.partition.labeled[0].id
    (base / "photos" / f"{gone}.png").unlink()
    _, said = update_folder(base / "data", name="mine")
    assert any(line.startswith("split 3-classes-s0 no longer fits: ") and gone in line for line in said)


def test_another_folder_of_unlabeled_images(base: Path) -> None:
    """Added by itself; where its names are taken, its ids alone get a word in front."""
    before = load_dataset(base / "data", "mine")
    save(base / "again" / "u0.png", 200)
    save(base / "again" / "x.png", 201)
    after, said = update_folder(base / "data", name="mine", unlabeled=base / "again")
    assert ids(after.train) - ids(before.train) == {"unlabeled2/u0", "unlabeled2/x"}
    assert "2 new images without: unlabeled2/u0, unlabeled2/x" in said
    assert manifest(after.root)["source"]["more"] == [str(base / "again")]
    line = anew(after.root)
    assert f"--classes {base / 'data' / '.mine-old' / 'classes.txt'} --name mine" in line
    assert f" && semiseg prepare folder --unlabeled {base / 'again'} --name mine --root" in line
    save(base / "again" / "y.png", 202)
    assert "1 new images without: unlabeled2/y" in update_folder(base / "data", name="mine")[1]
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare_folder(**given(base))
    assert "prepare folder --name mine --update --root" in caught.value.fix


def test_a_validation_image_that_is_gone_and_a_copy_of_one(base: Path) -> None:
    first, second = sorted(ids(load_dataset(base / "data", "mine").val))
    (base / "masks" / f"{first}.png").unlink()
    shutil.copy(base / "photos" / f"{second}.png", base / "photos" / "copy.png")
    save(base / "masks" / "copy.png", 3, mask=True)
    after, said = update_folder(base / "data", name="mine")
    assert ids(after.val) == {second}
    assert "copy" not in ids(after.train)
    assert any(line.startswith("1 validation images that are gone") for line in said)
    assert not any(line.startswith("the validation set is the same") for line in said)
    assert not (after.root / "masks" / "copy.png").exists()
    assert "1 image with a mask left out: equal to a validation image: copy" in manifest(after.root)["notes"]
    (base / "photos" / f"{second}.png").unlink()
    with pytest.raises(DataError, match="none of the validation images"):
        update_folder(base / "data", name="mine")


def test_new_validation_photos_are_left_out(base: Path) -> None:
    for i in range(2):
        save(base / "val" / f"v{i}.png", 300 + i)
        save(base / "val_masks" / f"v{i}.png", 300 + i, mask=True)
    more = {"val": base / "val", "val_masks": base / "val_masks", "name": "held"}
    before = prepare_folder(**given(base) | more)
    save(base / "val" / "v2.png", 302)
    save(base / "val_masks" / "v2.png", 302, mask=True)
    after, _ = update_folder(base / "data", name="held")
    assert (after.val, after.train) == (before.val, before.train)
    assert "1 image of --val left out, since the validation set stays: v2" in manifest(after.root)["notes"]
    assert on_disk(after) == []


def test_nothing_changes_where_something_is_wrong(base: Path) -> None:
    before = {path: path.read_bytes() for path in (base / "data").rglob("*") if path.is_file()}
    label(base, "new", 50)
    (base / "photos" / "new.png").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be used"):
        update_folder(base / "data", name="mine")
    (base / "photos" / "new.png").unlink()
    for options, said in (
        ({"long_side": 100}, "--long-side"), ({"levels": (0, 9)}, "--levels"),
        ({"told": Told(first=1)}, "masks are read"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            update_folder(base / "data", name="mine", **options)
    (base / "other.txt").write_text("a\nb\nz\n")
    with pytest.raises(DataError, match="other classes"):
        update_folder(base / "data", name="mine", classes=base / "other.txt")
    assert {path: path.read_bytes() for path in (base / "data").rglob("*") if path.is_file()} == before


def test_folders_that_were_moved_and_a_dataset_of_before(base: Path) -> None:
    """One that holds no copy of its classes file is asked for it."""
    shutil.move(base / "photos", base / "elsewhere")
    with pytest.raises(DataError, match="photos is not a folder"):
        update_folder(base / "data", name="mine")
    save(base / "more" / "u3.png", 103)
    file = base / "data" / "mine" / "dataset.toml"
    file.write_text(file.read_text().replace('classes_file = "classes.txt"\n', ""))
    moved = {"labeled": base / "elsewhere"}
    with pytest.raises(UsageError, match="no copy of its classes file"):
        update_folder(base / "data", name="mine", moved=moved)
    after, said = update_folder(base / "data", name="mine", moved=moved, classes=base / "classes.txt")
    assert said == ["1 new images without: u3", "the validation set is the same: 2 images"]
    assert after.labeled


def test_check_says_what_is_new_on_disk(base: Path) -> None:
    def warned() -> list[str]:
        found = check(base / "data", "mine")["warnings"]
        return [each["detail"] for each in found if each["what"].startswith("on disk")]

    assert warned() == []
    label(base, "new", 50)
    save(base / "more" / "u3.png", 103)
    (base / "more" / "u1.png").unlink()
    assert warned() == ["1 new images with a mask: new", "1 new images without: u3", "1 images that are gone: u1"]
    update_folder(base / "data", name="mine")
    assert warned() == []
    shutil.rmtree(base / "more")
    assert warned() == []  # the dataset needs its folders no longer
