"""Files of pairs: a round trip, and which file belongs to a partition."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.partitions.pairs import Pairs, command_for, describe_lists, find_pairs, read_pairs, write_pairs
from semiseg_cli.core.partitions.splits import resolve_partition


@pytest.fixture
def dataset(shapes_root: Path, tmp_path: Path) -> Dataset:
    return replace(load_dataset(shapes_root, "shapes"), root=tmp_path / "shapes")


def made(dataset: Dataset, partition: Partition, name: str, age: int = 0) -> Pairs:
    count = len(partition.unlabeled)
    index = np.arange(2 * count).reshape(count, 2) % len(partition.labeled)
    meta = {"encoder": "tiny", **describe_lists(partition)}
    pairs = Pairs(dataset.root / "pairs" / f"{name}.safetensors", index, np.full((count, 2), 0.5, np.float32), meta)
    write_pairs(pairs)
    os.utime(pairs.path, (1000 - age, 1000 - age))
    return pairs


def test_a_round_trip(dataset: Dataset) -> None:
    pairs = made(dataset, resolve_partition(dataset, "4"), "one")
    found = read_pairs(pairs.path)
    assert np.array_equal(found.index, pairs.index)
    assert (found.index.dtype, found.distance.dtype) == (np.int64, np.float32)
    assert found.meta.items() >= pairs.meta.items()
    assert found.nearest == tuple(pairs.index[:, 0])
    assert [path.name for path in pairs.path.parent.iterdir()] == ["one.safetensors"]


def test_the_newest_file_of_the_same_lists_is_found(dataset: Dataset) -> None:
    four, three = resolve_partition(dataset, "4"), resolve_partition(dataset, "3")
    made(dataset, four, "old", age=2)
    new = made(dataset, four, "new", age=1)
    made(dataset, three, "other")
    assert find_pairs(dataset, four, "", "semiseg pair").path == new.path
    assert find_pairs(dataset, four, "old.safetensors", "semiseg pair").path.stem == "old"
    assert find_pairs(dataset, four, str(new.path), "semiseg pair").path == new.path
    assert find_pairs(dataset, three, "", "semiseg pair").path.stem == "other"


def test_pairs_of_another_split_or_order_are_refused(dataset: Dataset) -> None:
    four, three = resolve_partition(dataset, "4"), resolve_partition(dataset, "3")
    pairs = made(dataset, four, "four")
    with pytest.raises(DataError, match="another split") as caught:
        find_pairs(dataset, three, str(pairs.path), "semiseg pair shapes --labeled 3")
    assert caught.value.fix == "semiseg pair shapes --labeled 3"
    with pytest.raises(DataError, match="no pairs of similar images") as caught:
        find_pairs(dataset, three, "", "semiseg pair shapes --labeled 3")
    assert four.name in caught.value.why
    assert caught.value.fix == "semiseg pair shapes --labeled 3"
    with pytest.raises(DataError, match="no pairs"):  # the same images at other places
        find_pairs(dataset, replace(four, labeled=four.labeled[::-1]), "", "semiseg pair")


def test_pairs_of_images_that_changed_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Ids stay, the picture does not: `pair` would make another file, so training must not take this one."""
    copies = tmp_path / "images"
    copies.mkdir()
    moved = [replace(r, image=Path(shutil.copy(r.image, copies / r.image.name))) for r in dataset.train]
    dataset = replace(dataset, train=tuple(moved))
    four = resolve_partition(dataset, "4")
    pairs = made(dataset, four, "four")
    assert find_pairs(dataset, four, "", "semiseg pair").path == pairs.path
    for record in (four.labeled[0], four.unlabeled[-1]):
        before = record.image.read_bytes(), record.image.stat()
        shutil.copy(four.unlabeled[0].image, record.image)
        for named in ("", pairs.path.name):
            with pytest.raises(DataError, match=r"no pairs|other images") as caught:
                find_pairs(dataset, four, named, "semiseg pair shapes --labeled 4")
            assert f"{four.name} before its image files changed" in caught.value.why
            assert caught.value.fix == "semiseg pair shapes --labeled 4"
        record.image.write_bytes(before[0])
        os.utime(record.image, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert find_pairs(dataset, four, "", "semiseg pair").path == pairs.path
    four.labeled[0].image.unlink()
    with pytest.raises(DataError, match=r"cannot read .*png"):
        find_pairs(dataset, four, "", "semiseg pair")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": np.zeros(10, np.int64)}, r"index is int64 \(10,\)"),
        ({"index": np.zeros((9, 2), np.int64)}, r"index is int64 \(9, 2\), not int64 \(10, k\)"),
        ({"index": np.zeros((10, 0), np.int64)}, r"\(10, 0\)"),
        ({"index": np.zeros((10, 2), np.float32)}, "index is float32"),
        ({"index": np.full((10, 2), 4)}, "places 4 to 4 of 4 labeled"),
        ({"index": np.full((10, 2), -1)}, "places -1 to -1 of 4 labeled"),
        ({"distance": np.zeros((10, 1), np.float32)}, r"distance is float32 \(10, 1\)"),
        ({"distance": np.zeros((10, 2))}, "distance is float64"),
    ],
)
def test_contents_that_do_not_fit(dataset: Dataset, change: dict[str, Any], said: str) -> None:
    four = resolve_partition(dataset, "4")
    pairs = replace(made(dataset, four, "four"), **change)
    write_pairs(pairs)
    for named, fix in (("", f"rm {pairs.path} && semiseg pair"), ("four.safetensors", "semiseg pair")):
        with pytest.raises(DataError, match="damaged") as caught:
            find_pairs(dataset, four, named, "semiseg pair")
        assert str(pairs.path) in caught.value.what
        assert re.search(said, caught.value.why)
        assert caught.value.fix == fix


def test_files_of_another_version_are_passed_over(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    four = resolve_partition(dataset, "4")
    good = made(dataset, four, "good", age=2)
    monkeypatch.setattr("semiseg_cli.core.partitions.pairs.SCHEMA", "1")
    old = made(dataset, four, "old", age=1)
    monkeypatch.undo()
    assert find_pairs(dataset, four, "", "semiseg pair").path == good.path
    good.path.unlink()
    for named in ("", old.path.name):
        with pytest.raises(DataError) as caught:
            find_pairs(dataset, four, named, "semiseg pair shapes")
        assert caught.value.fix == "semiseg pair shapes"
        assert "another version of semiseg" in caught.value.why or "as written now" in caught.value.what


def test_files_that_are_none(dataset: Dataset, tmp_path: Path) -> None:
    partition = resolve_partition(dataset, "4")
    pairs = made(dataset, partition, "one")
    with pytest.raises(DataError, match="there is no pairs file"):
        read_pairs(tmp_path / "absent.safetensors")
    pairs.path.write_bytes(pairs.path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot read") as caught:
        read_pairs(pairs.path)
    assert "truncated" in caught.value.why
    write_pairs(replace(pairs, meta={}))
    with pytest.raises(DataError, match="not one of pairs"):
        read_pairs(pairs.path)


def test_the_command_names_what_differs_from_what_it_does_anyway(dataset: Dataset) -> None:
    plain = replace(dataset, root=Path("data/shapes"))
    command = command_for(plain, "1/8", balance="classes", seed=0, encoder="resnet50", weights="auto")
    assert command == "semiseg pair shapes --labeled 1/8"
    command = command_for(
        replace(dataset, root=Path("my data/shapes")), "", balance="random", seed=2, encoder="tiny", weights="none"
    )
    assert shlex.split(command)[3:] == [
        "--balance", "random", "--seed", "2", "--encoder", "tiny", "--weights", "none", "--root", "my data",
    ]  # fmt: skip
