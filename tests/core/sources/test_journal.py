"""What a journal remembers: whole lines of the same undertaking whose files are there, nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.sources.journal import Journal


def record(folder: Path, id: str) -> Record:
    mask = folder / "masks" / f"{id}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.write_bytes(b"a mask")
    return Record(id, folder.parent / "raw" / f"{id}.jpg", mask, 3, 4, (5, 7))


def test_a_second_journal_goes_on_where_the_first_stood(tmp_path: Path) -> None:
    records = [record(tmp_path / "d", f"image {index}") for index in range(200)]
    with Journal(tmp_path / "d", {"from": "here"}) as journal, ThreadPoolExecutor(8) as pool:
        assert journal.done == {}
        list(pool.map(lambda each: journal.add("train", each), records))
    with Journal(tmp_path / "d", {"from": "here"}) as journal:
        assert journal.done == {each.id: each for each in records}
    with Journal(tmp_path / "d", {"from": "elsewhere"}) as journal:
        assert journal.done == {}
        journal.remove()
    assert not journal.path.exists()


@pytest.mark.parametrize("damage", ["cut", "joined", "no mask", "empty mask"])
def test_what_is_not_certain_is_done_again(tmp_path: Path, damage: str) -> None:
    first, second = record(tmp_path / "d", "first"), record(tmp_path / "d", "second")
    with Journal(tmp_path / "d", {}) as journal:
        journal.add("train", first)
        journal.add("train", second)
        journal.add("val", first)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    if damage == "cut":
        journal.path.write_bytes(b"".join(lines[:2]) + lines[2][:-4])
    elif damage == "joined":
        journal.path.write_bytes(lines[0] + lines[1] + lines[2][:20] + lines[3])
    elif damage == "no mask":
        second.mask.unlink()
    else:
        second.mask.write_bytes(b"")
    with Journal(tmp_path / "d", {}) as journal:
        assert journal.done == {"first": first}
        journal.add("train", record(tmp_path / "d", "third"))
    with Journal(tmp_path / "d", {}) as journal:
        assert list(journal.done) == ["first", "third"]
