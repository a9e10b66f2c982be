"""A dataset grows: what came joins, what went leaves, the validation set and what still fits stay, and all is said."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import own_folders
import pytest
from fresh import begun, kill_at
from own_folders import given
from PIL import Image

from semiseg_cli.core.data.again import anew
from semiseg_cli.core.data.index import load_dataset, manifest, prepared
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.copies import copy
from semiseg_cli.core.sources.told import Told
from semiseg_cli.stages import prepare
from semiseg_cli.stages.check import check
from semiseg_cli.stages.prepare import prepare_folder
from semiseg_cli.stages.split import make_split
from semiseg_cli.stages.update import on_disk, update_folder

SIZE = (20, 26)


def save(path: Path, seed: int, mask: bool = False) -> None:
    own_folders.save(path, seed, SIZE, mask)


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
        "1 new image with a mask: new", "1 new image without: u3", "1 image with a mask now: u0",
        "1 image gone: u1", "the validation set is the same: 2 images",
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
    assert "1 split as before, without the new images: 3-classes-s0" in said
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
    assert "1 new image without: unlabeled2/y" in update_folder(base / "data", name="mine")[1]
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
    assert any(line.startswith("1 validation image gone") for line in said)
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


@pytest.mark.parametrize(
    ("line", "odd", "said"),
    [
        ("masks = ", "masks = 7", "source.masks is '7'"),
        ("long_side = ", "long_side = -1", "source.long_side is '-1'"),
        ("long_side = ", "long_side = 0xfffffffffffffffff", "64 bits"),
        ("ignore = ", "", "lacks 'ignore'"),
        ("classes_file = ", 'classes_file = "../other.txt"', "leads out of its folder"),
    ],
)
def test_a_dataset_that_does_not_tell_how_it_was_made(base: Path, line: str, odd: str, said: str) -> None:
    file = base / "data" / "mine" / "dataset.toml"
    head, source, rest = file.read_text().partition("[source]")
    where = head if line.startswith("classes_file") else rest
    damaged = "\n".join(odd if row.startswith(line) else row for row in where.split("\n"))
    assert damaged != where
    file.write_text(head.replace(where, damaged) + source + rest.replace(where, damaged))
    save(base / "more" / "u3.png", 103)
    with pytest.raises(DataError) as caught:
        update_folder(base / "data", name="mine")
    assert said in f"{caught.value.what} {caught.value.why}"


def test_folders_that_were_moved_and_a_dataset_of_before(base: Path) -> None:
    """One that holds no copy of its classes file is asked for it."""
    shutil.move(base / "photos", base / "elsewhere")
    with pytest.raises(DataError, match=r"there is no folder .*photos"):
        update_folder(base / "data", name="mine")
    save(base / "more" / "u3.png", 103)
    file = base / "data" / "mine" / "dataset.toml"
    file.write_text(file.read_text().replace('classes_file = "classes.txt"\n', ""))
    moved = {"labeled": base / "elsewhere"}
    with pytest.raises(UsageError, match="no copy of its classes file"):
        update_folder(base / "data", name="mine", moved=moved)
    after, said = update_folder(base / "data", name="mine", moved=moved, classes=base / "classes.txt")
    assert said == ["1 new image without: u3", "the validation set is the same: 2 images"]
    assert after.labeled


def test_check_says_what_is_new_on_disk(base: Path) -> None:
    def warned() -> list[str]:
        found = check(base / "data", "mine")["warnings"]
        return [each["detail"] for each in found if each["what"].startswith("on disk")]

    assert warned() == []
    label(base, "new", 50)
    save(base / "more" / "u3.png", 103)
    (base / "more" / "u1.png").unlink()
    assert warned() == ["1 new image with a mask: new", "1 new image without: u3", "1 image gone: u1"]
    update_folder(base / "data", name="mine")
    assert warned() == []
    shutil.rmtree(base / "more")
    assert warned() == []  # the dataset needs its folders no longer


def test_a_validation_image_that_is_another_is_said(base: Path) -> None:
    """Its photo or its mask, under the same name; a file that was only touched is none."""
    first, second = sorted(ids(load_dataset(base / "data", "mine").val))
    save(base / "masks" / f"{first}.png", 400, mask=True)
    _, said = update_folder(base / "data", name="mine")
    assert said == [
        "1 validation image whose photo or mask is another: numbers do not compare with those of before: " + first
    ]
    save(base / "photos" / f"{second}.png", 401)
    label(base, "l1" if "l1" not in (first, second) else "l2", 402)
    _, said = update_folder(base / "data", name="mine")
    assert said[0].startswith("1 image whose photo or mask is another: l")
    assert said[1].endswith(f"do not compare with those of before: {second}")
    os.utime(base / "photos" / f"{second}.png")
    _, said = update_folder(base / "data", name="mine")
    assert said == ["no image came, went or changed", "the validation set is the same: 2 images"]


def test_only_what_changed_is_converted(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is taken as it is, and gives the same dataset as if all were converted."""
    copied = list[str]()

    def watched(source: Any, *rest: Any) -> Any:
        copied.append(source.id)
        return copy(source, *rest)

    monkeypatch.setattr(prepare, "copy", watched)
    label(base, "new", 50)
    save(base / "masks" / "l4.png", 51, mask=True)
    save(base / "more" / "u1.png", 52)
    (base / "data" / "mine" / "images" / "u2.png").unlink(missing_ok=True)
    (base / "data" / "mine" / "images" / "u2.jpg").unlink(missing_ok=True)
    after, _ = update_folder(base / "data", name="mine")
    assert sorted(copied) == ["l4", "new", "u1", "u2"]
    whole = prepare_folder(**given(base) | {"name": "whole", "val": None})
    files = {record.id: record for record in (*whole.train, *whole.val)}
    assert ids((*after.train, *after.val)) == files.keys()
    for record in (*after.train, *after.val):
        other = files[record.id]
        assert (record.width, record.height, record.pixels) == (other.width, other.height, other.pixels)
        assert record.image.read_bytes() == other.image.read_bytes()
        if record.mask:
            assert other.mask
            assert record.mask.read_bytes() == other.mask.read_bytes()
    assert not [path for path in after.root.rglob("*") if path.is_file() and path.stat().st_nlink > 1]


def test_a_damaged_table_of_what_copies_were_made_from_costs_time_alone(base: Path) -> None:
    file = base / "data" / "mine" / "sources.tsv"
    assert len(file.read_text().splitlines()) == 13
    for damage in (b"l0\tzz\t1\n", b"\xff\xfe\0", b""):
        file.write_bytes(damage)
        label(base, f"new{len(damage)}", 50 + len(damage))
        after, _ = update_folder(base / "data", name="mine")
        assert f"new{len(damage)}" in ids(after.train)
        assert len(file.read_text().splitlines()) == len(after.train) + len(after.val)


def test_masks_that_mean_something_else_now_are_converted_anew(base: Path) -> None:
    """A new mask may change how all are read, though their files stay."""
    for i in range(10):
        image = Image.fromarray(np.random.default_rng(i).integers(0, 3, SIZE, np.uint8), "P")
        image.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
        image.save(base / "masks" / f"l{i}.png")
    before = prepare_folder(**given(base) | {"name": "grey"})
    label(base, "new", 60)
    image = Image.fromarray(np.random.default_rng(60).integers(0, 3, SIZE, np.uint8), "P")
    image.putpalette([2, 2, 2, 1, 1, 1, 0, 0, 0])  # by the greys of its colours from now on
    image.save(base / "masks" / "new.png")
    after, said = update_folder(base / "data", name="grey")
    records = {record.id: record for record in after.train}
    mask = np.array(Image.open(records["new"].mask))  # type: ignore[arg-type]
    meant = 2 - np.random.default_rng(60).integers(0, 3, SIZE, np.uint8)
    assert np.array_equal(mask, cv2.resize(meant, mask.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    assert "the validation set is the same: 2 images" in said
    assert ids(after.val) == ids(before.val)


def killed(root: Path, at: int) -> None:
    """An update that is killed, with no time to say so, before it renames for the `at`-th time."""
    kill_at(os, "rename", at)
    update_folder(root, name="mine")


def test_an_update_that_is_killed_loses_nothing(base: Path, tmp_path: Path) -> None:
    """Killed before each of its renames: the next command finds the dataset, as before or as after, with its splits."""
    make_split(base / "data", "mine", "3")
    (base / "data" / "mine" / "notes.txt").write_text("mine")
    before = {path.relative_to(base / "data") for path in (base / "data").rglob("*") if path.is_file()}
    label(base, "new", 50)
    roots = [tmp_path / f"data{n}" for n in range(3)]
    for root in roots:
        shutil.copytree(base / "data", root, copy_function=shutil.copy2)
    processes = [begun(killed, root, n) for n, root in enumerate(roots)]
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]  # the old folder gives its name away, the new one takes it
    for n, root in enumerate(roots):
        if n == 1:  # between the two
            assert not (root / "mine").exists()
            with pytest.warns(UserWarning, match="an update of mine was killed: the dataset is as it was before"):
                assert prepared(root) == ["mine"]
        there = load_dataset(root, "mine")
        assert ("new" in ids(there.train)) == (n > 1), n
        files = {path.relative_to(root) for path in (root / "mine").rglob("*") if path.is_file()}
        assert (files == before) == (n < 2)
        assert {Path("mine/notes.txt"), Path("mine/splits/3-classes-s0/labeled.txt")} < files
        if n < 2:
            after, _ = update_folder(root, name="mine")
            assert "new" in ids(after.train)
            assert (root / "mine" / "splits" / "3-classes-s0" / "labeled.txt").is_file()
        assert [path.name for path in root.iterdir()] == ["mine"]


def test_a_killed_update_is_put_right_by_the_command_that_prepares(base: Path) -> None:
    (base / "data" / "mine").rename(base / "data" / ".mine.before")
    with pytest.warns(UserWarning, match="was killed"):
        assert prepare_folder(**given(base)).root == base / "data" / "mine"
    assert [path.name for path in (base / "data").iterdir()] == ["mine"]
