"""An index on disk: what is kept beside it is of it, or is made anew; and what is damaged is told, never shown."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semiseg_cli.core.data import indexing
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.indexing import NAME
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.tensors import read_tensors, write_arrays


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Those of the dataset `d`, the last of which is for validation."""
    folder = tmp_path / "d"
    made = [Record(f"{i:03d}", folder / f"{i}.jpg", folder / f"{i}.png", 10 + i % 3, 20, (i, 1)) for i in range(50)]
    write_dataset(Dataset("d", "folder", folder, ("a", "b"), ((0, 0, 0),) * 2, made[:-1], made[-1:]), {})
    return made


def every(root: Path) -> list[Record]:
    dataset = load_dataset(root, "d")
    return [*dataset.train, *dataset.val]


def settled(folder: Path) -> None:
    """Both files as if they had been written long ago, one after the other."""
    for second, name in enumerate(("index.tsv", NAME)):
        os.utime(folder / name, (10 * second, 10 * second))


@pytest.mark.parametrize("absent", [True, False])
def test_a_dataset_of_before_is_indexed_once(records: list[Record], tmp_path: Path, absent: bool) -> None:
    file, index = tmp_path / "d" / NAME, tmp_path / "d" / "index.tsv"
    as_written = read_tensors(file)[0]
    if absent:
        file.unlink()
    else:
        os.utime(index, (1, 1))  # as a copy's is
    assert every(tmp_path) == records
    again = read_tensors(file)[0]
    assert all(again[name].equal(array) for name, array in as_written.items())
    before = file.stat()
    assert every(tmp_path) == records
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_change_is_seen_though_size_and_time_stay(records: list[Record], tmp_path: Path) -> None:
    index = tmp_path / "d" / "index.tsv"
    before = index.stat()
    index.write_text(index.read_text().replace("007\t", "7oo\t"))
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert every(tmp_path)[7].id == "7oo"


def test_an_index_that_was_left_alone_is_not_read(records: list[Record], tmp_path: Path, monkeypatch: Any) -> None:
    index = tmp_path / "d" / "index.tsv"
    (tmp_path / "d" / NAME).unlink()
    os.utime(index, (1, 1))
    every(tmp_path)
    monkeypatch.setattr(indexing, "indexed", None)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert every(tmp_path) == records


def test_lines_of_another_system(records: list[Record], tmp_path: Path) -> None:
    index = tmp_path / "d" / "index.tsv"
    index.write_bytes(index.read_bytes().replace(b"\n", b"\r\n"))
    assert every(tmp_path) == records


def test_where_nobody_may_write(records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("read-only file system")

    (tmp_path / "d" / NAME).unlink()
    monkeypatch.setattr(indexing, "whole", refused)
    assert every(tmp_path) == records
    assert not (tmp_path / "d" / NAME).exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "header", "words", "folder"])
def test_a_damaged_file_beside_it_is_made_anew(records: list[Record], tmp_path: Path, damage: str) -> None:
    file = tmp_path / "d" / NAME
    data = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {
                "empty": b"", "cut": data[:-5], "longer": data + b"0" * 8, "header": b"\xff" * 9 + data[9:],
                "words": data.replace(b'"shape"', b'"SHAPE"', 1),
            }[damage]
        )  # fmt: skip
    assert every(tmp_path) == records


def wrong(file: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Write the file beside an index with another array in it, as if the disk had made it so."""
    tensors, meta = read_tensors(file)
    arrays = {key: tensor.numpy().copy() for key, tensor in tensors.items()}
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with file.open("wb") as new:
        write_arrays(new, arrays, meta)
    settled_index = file.with_name("index.tsv").stat()
    os.utime(file, ns=(0, settled_index.st_mtime_ns + 10**10))


@pytest.mark.parametrize("change", [lambda a: a + 1, lambda a: a - 1, lambda a: a * 2, lambda a: -a, lambda a: a[::-1]])
def test_lines_are_where_lines_begin_and_end(records: list[Record], tmp_path: Path, change: Any) -> None:
    wrong(tmp_path / "d" / NAME, "ends", change)
    with pytest.raises(DataError, match="damaged") as caught:
        every(tmp_path)
    assert caught.value.fix == f"rm {tmp_path}/d/{NAME}, then the same command: it reads index.tsv anew"
    (tmp_path / "d" / NAME).unlink()
    assert every(tmp_path) == records


def test_sizes_that_are_not_there_are_told(records: list[Record], tmp_path: Path) -> None:
    wrong(tmp_path / "d" / NAME, "shape", lambda a: a + 3)
    with pytest.raises(DataError, match="damaged"):
        load_dataset(tmp_path, "d").training.size_counts()


@pytest.mark.parametrize("name", ["train", "val", "masked", "sizes"])
@pytest.mark.parametrize("change", [lambda a: a[:, ::-1], lambda a: a + 1, lambda a: a[:-1]])
def test_what_decides_which_rows_are_which_is_checked(
    records: list[Record], tmp_path: Path, name: str, change: Any
) -> None:
    wrong(tmp_path / "d" / NAME, name, change)
    assert every(tmp_path) == records
    assert len(load_dataset(tmp_path, "d").labeled) == 49


def test_an_index_that_is_torn_while_it_is_open(records: list[Record], tmp_path: Path) -> None:
    dataset, index = load_dataset(tmp_path, "d"), tmp_path / "d" / "index.tsv"
    os.truncate(index, index.stat().st_size // 2)
    assert dataset.train[3] == records[3]
    with pytest.raises(DataError, match="changed while it was in use") as caught:
        list(dataset.val)
    assert caught.value.why.startswith("index.tsv, line 51: ")
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(tmp_path, "d")
    assert "semiseg prepare folder" in caught.value.fix


def test_an_index_that_is_edited_while_it_is_open(records: list[Record], tmp_path: Path) -> None:
    dataset, index = load_dataset(tmp_path, "d"), tmp_path / "d" / "index.tsv"
    with index.open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(text.replace("000\t", "a longer one\t", 1))
    with pytest.raises(DataError, match="changed while it was in use"):
        dataset.train[4]


def test_who_has_opened_a_dataset_keeps_it(records: list[Record], tmp_path: Path) -> None:
    dataset = load_dataset(tmp_path, "d")
    write_dataset(replace(dataset, train=dataset.train[:5], val=()), {})
    assert [*dataset.train, *dataset.val] == records
    assert every(tmp_path) == records[:5]
    shutil.rmtree(tmp_path / "d")
    assert dataset.val[0] == records[-1]


def _at(records: Any, places: range, result: Any) -> None:
    result.put([records[place] for place in places])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_read_side_by_side(records: list[Record], tmp_path: Path, start: str) -> None:
    dataset, context = load_dataset(tmp_path, "d"), multiprocessing.get_context(start)
    result = context.Queue()
    parts = [range(25), range(24, 49)]
    workers = [context.Process(target=_at, args=(dataset.train, part, result)) for part in parts]
    for worker in workers:
        worker.start()
    found = sorted((result.get() for _ in workers), key=lambda part: part[0].id)
    assert found == [[records[place] for place in part] for part in parts]
    for worker in workers:
        worker.join()


def test_no_file_stays_open(records: list[Record], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    dataset = load_dataset(tmp_path, "d")
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del dataset
    assert len(os.listdir("/proc/self/fd")) == before
