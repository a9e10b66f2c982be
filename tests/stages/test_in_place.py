"""Photos that stay where they are: none is copied or opened twice, and one that is another now is never taken."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import own_folders
import pytest
from PIL import Image

from semiseg_cli.core.data.again import anew, at_hand, naming_bad_files
from semiseg_cli.core.data.decode import Pixels, decode_record
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.photos import read_image, reduced
from semiseg_cli.core.errors import BadFile, DataError, UsageError
from semiseg_cli.core.sources import copies
from semiseg_cli.stages.check import check
from semiseg_cli.stages.prepare import prepare_folder
from semiseg_cli.stages.update import update_folder

SIZE = (20, 30)


def save(path: Path, seed: int, mask: bool = False, size: tuple[int, int] = SIZE, **how: Any) -> None:
    own_folders.save(path, seed, size, mask, **how)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Five labeled photos and three others, prepared in place as `mine`, with a long side of 24 pixels."""
    for i in range(5):
        save(tmp_path / "photos" / f"l{i}.png", i)
        save(tmp_path / "masks" / f"l{i}.png", i, mask=True)
    for i in range(3):
        save(tmp_path / "more" / "sub" / f"u{i}.jpg", 100 + i)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    prepare_folder(**given(tmp_path))
    return tmp_path


def given(base: Path) -> dict[str, Any]:
    return own_folders.given(base, in_place=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_photos_stay_where_they_are_and_are_reduced_when_they_are_read(base: Path) -> None:
    dataset = load_dataset(base / "data", "mine")
    assert not (dataset.root / "images").exists()
    records = [*dataset.train, *dataset.val]
    theirs = {*(base / "photos").iterdir(), *(base / "more" / "sub").iterdir()}
    assert {record.image for record in records} == theirs
    assert all((record.height, record.width) == SIZE for record in records)
    assert all(record.bytes == record.image.stat().st_size for record in records)
    labeled = dataset.labeled[0]
    image, mask = Pixels([labeled], 0, dataset.long_side)[0]
    assert np.array_equal(image, reduced(read_image(labeled.image), 24))
    assert mask is not None
    assert image.shape[:2] == mask.shape == (16, 24)
    drawn = np.array(Image.open(base / "masks" / f"{labeled.id}.png"))
    assert labeled.pixels == tuple(np.bincount(drawn.ravel(), minlength=3))
    assert check(base / "data", "mine")["problems"] == []


def test_a_photo_without_a_mask_is_known_by_its_header(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[Path]()
    read = copies.read_image
    monkeypatch.setattr(copies, "read_image", lambda path, *more: (decoded.append(path), read(path, *more))[1])
    again = prepare_folder(**given(base) | {"name": "again"})
    assert sorted(decoded) == sorted((base / "photos").iterdir())
    assert again.pool == load_dataset(base / "data", "mine").pool


def test_what_every_decoder_does_not_read_alike_is_copied(base: Path) -> None:
    save(base / "more" / "b.bmp", 7)
    turned = Image.Exif()
    turned[0x0112] = 6
    save(base / "more" / "t.jpg", 8, exif=turned)
    dataset, _ = update_folder(base / "data", name="mine")
    changed = {r.id: r for r in dataset.pool if not r.bytes}
    assert set(changed) == {"b", "t"}
    assert all(r.image.is_relative_to(dataset.root) for r in changed.values())
    assert (changed["t"].height, changed["t"].width) == (24, 16)  # upright, and reduced


def test_an_equal_picture_of_the_pool_is_left_out_and_stays_on_the_disk(base: Path) -> None:
    shutil.copyfile(base / "photos" / "l0.png", base / "more" / "same.png")
    dataset, _ = update_folder(base / "data", name="mine")
    assert {record.id for record in dataset.pool} == {"sub/u0", "sub/u1", "sub/u2"}
    assert (base / "more" / "same.png").is_file()


def test_a_photo_that_changed_is_named_with_what_takes_it_as_it_is(base: Path) -> None:
    dataset = load_dataset(base / "data", "mine")
    photo = base / "more" / "sub" / "u1.jpg"
    save(photo, 500)  # of the same size in pixels
    record = next(record for record in dataset.pool if record.image == photo)
    with pytest.raises(BadFile, match=r"u1\.jpg is not the photo that was indexed") as found, naming_bad_files(dataset):
        Pixels([record], 0)[0]
    update = f"semiseg prepare folder --name mine --update --root {base / 'data'}"
    assert update in found.value.fix
    said = check(base / "data", "mine")
    assert [each["what"] for each in said["problems"]] == ["photo that is not the one that was indexed"]
    assert update in said["fix"]
    after, changes = update_folder(base / "data", name="mine")
    assert "1 image whose photo or mask is another: sub/u1" in changes
    assert decode_record(next(r for r in after.pool if r.image == photo)).shape == (*SIZE, 3)
    assert check(base / "data", "mine")["problems"] == []


def test_a_photo_of_another_size_in_pixels_is_never_taken(base: Path) -> None:
    record = load_dataset(base / "data", "mine").pool[0]
    save(record.image, 3, size=(9, 9))
    with pytest.raises(BadFile, match=record.image.name):
        decode_record(record)


def test_a_folder_that_was_moved_comes_back_by_the_line_that_is_said(base: Path) -> None:
    dataset = load_dataset(base / "data", "mine")
    (base / "photos").rename(base / "elsewhere")
    with pytest.raises(DataError, match="are not where they were") as found:
        at_hand(dataset)
    line = found.value.fix.partition("is now: ")[2]
    assert shlex.split(line) == ["ln", "-s", "DIR", str(base / "photos")]
    subprocess.run(shlex.split(line.replace("DIR", str(base / "elsewhere"))), check=True)
    assert at_hand(dataset) is dataset
    assert check(base / "data", "mine")["problems"] == []


def test_photos_that_are_gone_leave_with_an_update_and_the_rest_is_not_touched(base: Path) -> None:
    (base / "photos" / "l0.png").unlink()
    (base / "more" / "sub" / "u0.jpg").unlink()
    before = files(base / "photos") | files(base / "more")
    said = check(base / "data", "mine", fast=True)
    assert {each["what"] for each in said["problems"]} == {"file that is not there"}
    assert "--update" in said["fix"]
    after, changes = update_folder(base / "data", name="mine")
    assert "2 images gone: l0, sub/u0" in changes
    assert len(after.train) + len(after.val) == 6
    assert files(base / "photos") | files(base / "more") == before


def test_an_update_finds_labeled_photos_where_they_are_now(base: Path) -> None:
    (base / "photos").rename(base / "elsewhere")
    after, _ = update_folder(base / "data", name="mine", moved={"labeled": base / "elsewhere"})
    every = [*after.labeled, *after.val]
    assert {record.image for record in every} == set((base / "elsewhere").iterdir())
    assert check(base / "data", "mine")["problems"] == []


def test_an_update_keeps_the_manner_and_refuses_to_begin_it(base: Path) -> None:
    copied = given(base) | {"name": "copied", "in_place": False}
    prepare_folder(**copied)
    with pytest.raises(UsageError, match="--in-place"):
        update_folder(base / "data", name="copied", in_place=True)
    assert "--in-place" in shlex.split(anew(base / "data" / "mine"))
    assert "--in-place" not in shlex.split(anew(base / "data" / "copied"))
    _, said = update_folder(base / "data", name="mine")  # nothing said: as before
    assert said == ["nothing changed in the folders of mine"]


def test_relative_paths_and_links(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    os.symlink(base / "more" / "sub" / "u0.jpg", base / "photos" / "link.jpg")
    os.symlink("photos", base / "linked")
    relative = {key: Path(os.path.relpath(value, base)) if isinstance(value, Path) else value
                for key, value in given(base).items()}  # fmt: skip
    made = prepare_folder(**relative | {"name": "relative", "labeled": Path("linked")})
    monkeypatch.chdir("/")
    dataset = load_dataset(base / "data", "relative")
    assert made.name == "relative"
    assert all(record.image.is_absolute() and record.image.is_file() for record in (*dataset.train, *dataset.val))
    assert base / "linked" / "l0.png" in {record.image for record in (*dataset.train, *dataset.val)}
    assert check(base / "data", "relative")["problems"] == []


def test_a_damaged_length_in_the_index_is_told_with_its_line(base: Path) -> None:
    index = base / "data" / "mine" / "index.tsv"
    text = index.read_text()
    length = load_dataset(base / "data", "mine").train[0].bytes
    for wrong in ("-3", "0", "x", "5\t6"):
        index.write_text(text.replace(f"\t{length}\n", f"\t{wrong}\n", 1))
        with pytest.raises(DataError, match="damaged") as found:
            load_dataset(base / "data", "mine")
        assert "line 2" in found.value.why
