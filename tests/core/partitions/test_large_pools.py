"""A pool of ten million images: what comes before a step asks for the labeled ones, and for none of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from semiseg_cli.core.data.decode import Pixels
from semiseg_cli.core.data.spans import Spans
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.view import MANY, Records
from semiseg_cli.core.inference.features import _groups
from semiseg_cli.core.partitions.pairs import describe_lists
from semiseg_cli.core.partitions.splits import from_lists, resolve_partition
from semiseg_cli.core.training.setup import usual_side
from semiseg_cli.stages.split import write_lists

COUNT = 10**7
MASKED = Spans([(3, 13), (5000, 5030), (COUNT - 10, COUNT)])


class Counting:
    """Ten million rows, each of which is made as it is asked for, and counted."""

    mark, masked, sizes = "f00d", MASKED, np.array([(30, 40), (20, 90)], np.int32)

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return COUNT

    def rows(self, start: int, stop: int) -> list[Record]:
        self.asked += stop - start
        masked = self.masked.places(np.arange(start, stop)) >= 0
        return [
            Record(f"{row}", Path(f"{row}.jpg"), Path(f"{row}.png") if mask else None, 30, 40, (9, row % 7) * mask)
            for row, mask in enumerate(masked.tolist(), start)
        ]

    def shapes(self, start: int, stop: int) -> NDArray[np.int32]:
        return (np.arange(start, stop, dtype=np.int32) % 5 == 0).astype(np.int32)

    def named(self, name: str) -> list[int]:
        return [int(name)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset("d", "folder", tmp_path, ("a", "b"), ((0, 0, 0),) * 2, Records(Counting()), ())


def asked(dataset: Dataset) -> int:
    table = dataset.training.table
    assert isinstance(table, Counting)
    return table.asked


def test_a_partition_is_what_it_adds(dataset: Dataset, tmp_path: Path) -> None:
    partition = resolve_partition(dataset, "10", seed=3)
    assert (len(partition.labeled), len(partition.unlabeled)) == (10, COUNT - 10)
    assert len(resolve_partition(dataset, "").unlabeled) == COUNT - len(MASKED)
    places = {int(record.id) for record in partition.labeled}
    assert all(partition.unlabeled[place].mask is None for place in (3, 5001, COUNT - 12))
    assert partition.unlabeled[COUNT - 11].id == str(max(set(range(COUNT - 30, COUNT)) - places))
    write_lists(tmp_path / "s", partition)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["labeled.txt"]
    again = from_lists(dataset, tmp_path / "s")
    assert (again.fingerprint, again.labeled) == (partition.fingerprint, partition.labeled)
    assert again.unlabeled == partition.unlabeled
    assert asked(dataset) < 1000


def test_sizes_are_counted_not_read(dataset: Dataset) -> None:
    assert usual_side(dataset) == 40
    pixels = Pixels(dataset.pool, 10 * COUNT)
    assert pixels.shape(6) == (30, 40)
    held = 9 * COUNT // (30 * 40 * 3 + (20 * 90 - 30 * 40) * 3 // 5)
    assert len(pixels.ends) == pytest.approx(held, rel=1e-3)
    assert asked(dataset) == 0


def test_lists_have_a_mark_of_their_own(dataset: Dataset) -> None:
    marks = [describe_lists(resolve_partition(dataset, count)) for count in ("10", "11")]
    assert marks[0] == describe_lists(resolve_partition(dataset, "10"))
    assert all(marks[0][key] != marks[1][key] for key in ("labeled", "unlabeled", "images"))
    assert asked(dataset) < 2000


def test_groups_of_one_shape_come_as_they_are_asked_for(dataset: Dataset) -> None:
    groups = _groups(dataset.training)
    assert next(groups).tolist() == list(range(0, 160, 5))
    assert next(groups).tolist() == list(range(160, 320, 5))
    some = dataset.training[: 3 * MANY]
    lengths = [len(group) for group in _groups(some)]
    assert sum(lengths) == len(some)
    fifth = 3 * MANY // 5 + 1
    assert [length for length in lengths if length != 32] == [fifth % 32, (3 * MANY - fifth) % 32]
    assert asked(dataset) == 0
