"""`check` on a dataset with every kind of damage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.stages.check import check
from semiseg_cli.stages.split import make_split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound dataset `park` of 6 labeled, 2 unlabeled and 3 validation images, 12x10 pixels, classes a, b and ufo."""
    folder, rng = tmp_path / "park", np.random.default_rng(0)

    def record(id: str, masked: bool = True) -> Record:
        image = write_image(folder / f"{id}.png", rng.integers(0, 255, (10, 12, 3), np.uint8))
        if not masked:
            return Record(id, image, None, 10, 12)
        mask = rng.integers(0, 2, (10, 12)).astype(np.uint8)
        mask[0] = 255
        pixels = (*np.bincount(mask.ravel())[:2].tolist(), 0)
        return Record(id, image, write_image(folder / f"{id}_mask.png", mask), 10, 12, pixels)

    train = [record(f"t{i}") for i in range(6)] + [record(f"u{i}", masked=False) for i in range(2)]
    val = [record(f"v{i}") for i in range(3)]
    write_dataset(Dataset("park", "folder", folder, ("a", "b", "ufo"), ((0, 0, 0),) * 3, tuple(train), tuple(val)), {})
    return folder


def problems(folder: Path) -> dict[str, str]:
    found = check(folder.parent, "park")["problems"]
    assert len({each["what"] for each in found}) == len(found)
    return {each["what"]: each["detail"] for each in found}


def test_a_validation_photo_in_another_encoding_is_a_warning(tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(1), tmp_path / "film"
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC))
    other = np.asarray(Image.fromarray(255 - coarse).resize((64, 48), Image.Resampling.BICUBIC))
    mask = rng.integers(0, 2, (48, 64), np.uint8)

    def record(id: str, suffix: str, image: Any) -> Record:
        file = write_image(folder / f"{id}{suffix}", image)
        return Record(id, file, write_image(folder / f"{id}_mask.png", mask), 48, 64)

    train = (record("a", ".png", photo), record("b", ".png", other))
    val = (record("v", ".jpg", photo),)
    write_dataset(Dataset("film", "folder", folder, ("a", "b"), ((0, 0, 0), (9, 9, 9)), train, val), {})
    found = check(tmp_path, "film")
    assert found["problems"] == []
    (one,) = [each for each in found["warnings"] if "looks like" in each["what"]]
    assert one["what"].startswith("labeled picture")
    assert one["detail"] == "train a = val v"


def test_sizes_of_one_area(tmp_path: Path) -> None:
    some = tuple(
        Record(id, write_image(tmp_path / f"{id}.png", np.zeros((high, wide), np.uint8)), None, high, wide)
        for id, high, wide in (("wide", 10, 12), ("high", 12, 10))
    )
    write_dataset(Dataset("two", "folder", tmp_path / "two", ("a", "b"), ((0, 0, 0),) * 2, some, ()), {})
    assert check(tmp_path, "two")["sizes"] == {"smallest": "12x10", "largest": "10x12"}


def test_sound_data(folder: Path) -> None:
    found = check(folder.parent, "park", labeled="2")
    assert found["problems"] == []
    assert found["images"] == {"labeled": 6, "unlabeled": 2, "val": 3}
    assert found["sizes"] == {"smallest": "12x10", "largest": "12x10"}
    assert found["ignored_pixels"] == {"train": 6 * 12, "val": 3 * 12}
    pixels = [record.pixels for record in load_dataset(folder.parent, "park").labeled]
    assert found["classes"]["a"]["train_pixels"] == sum(p[0] for p in pixels)
    assert found["classes"]["ufo"] == {"train_images": 0, "train_pixels": 0, "val_images": 0, "val_pixels": 0}
    assert sorted(each["what"] for each in found["warnings"]) == [
        "class in none of the labeled images of the partition",
        "class without a pixel in train",
        "class without a pixel in val",
    ]
    assert (found["partition"]["labeled"], found["partition"]["unlabeled"]) == (2, 6)
    assert found["partition"]["classes"]["a"]["images"] == 2
    assert found["val_is_published"] is None


def test_a_picture_in_both_sets_is_found_whatever_its_file(folder: Path) -> None:
    Image.open(folder / "u0.png").save(folder / "v1.png", optimize=True, compress_level=1)
    assert problems(folder) == {"picture both trained on and validated on": "train u0 = val v1"}


def test_a_picture_that_is_there_twice_is_a_warning(folder: Path) -> None:
    shutil.copy(folder / "t0.png", folder / "u1.png")
    found = check(folder.parent, "park")
    assert found["problems"] == []
    assert {"what": "picture that is there more than once", "detail": "train t0 = train u1"} in found["warnings"]


def damage(folder: Path, name: str, **mask: Any) -> None:
    array = np.array(Image.open(folder / name))
    if "value" in mask:
        array[3, 4:6] = mask["value"]
    write_image(folder / name, array[: mask.get("rows", 10)])


@pytest.mark.parametrize(
    ("name", "change", "what", "detail"),
    [
        ("t1_mask.png", {"value": 7}, "mask with values that are no class", "7 (2 pixels)"),
        ("t1_mask.png", {"value": 255}, "mask changed since it was prepared", "t1_mask.png"),
        ("v1_mask.png", {"rows": 8}, "mask of another size than its image", "12x8, not 12x10"),
        ("u1.png", {"rows": 8}, "image of another size than in the index", "12x8, not 12x10"),
    ],
)
def test_files_that_do_not_fit(folder: Path, name: str, change: dict[str, int], what: str, detail: str) -> None:
    damage(folder, name, **change)
    found = problems(folder)
    assert detail in found[what]
    assert name in found[what]


@pytest.mark.parametrize(("name", "what"), [("t1.png", "unreadable image"), ("v0_mask.png", "unreadable mask")])
@pytest.mark.parametrize("way", ["gone", "cut", "text"])
def test_unreadable_files(folder: Path, name: str, what: str, way: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if way != "gone":
        path.write_bytes(data[: len(data) // 2] if way == "cut" else b"not a picture")
    assert name in problems(folder)[what]


def test_a_mask_of_nothing_and_no_validation(folder: Path) -> None:
    dataset = load_dataset(folder.parent, "park")
    write_image(folder / "t2_mask.png", np.full((10, 12), 255, np.uint8))
    record = Record("t2", folder / "t2.png", folder / "t2_mask.png", 10, 12, (0, 0, 0))
    write_dataset(replace(dataset, train=(record,), val=()), {})
    found = check(folder.parent, "park")
    assert found["problems"] == []
    assert {"mask that ignores every pixel", "no validation image"} <= {each["what"] for each in found["warnings"]}


def test_progress_counts_every_image(folder: Path) -> None:
    from contextlib import contextmanager

    counted = list[int]()

    @contextmanager
    def progress(description: str, total: int) -> Any:
        assert (description, total) == ("checking park", 11)
        yield lambda count=1: counted.append(count)

    check(folder.parent, "park", progress=progress)
    assert sum(counted) == 11


def test_the_balance_is_that_of_the_partition(folder: Path) -> None:
    made = make_split(folder.parent, "park", "3", seed=2)
    found = check(folder.parent, "park", labeled=made.folder.name)
    assert found["partition"]["fingerprint"] == made.partition.fingerprint
