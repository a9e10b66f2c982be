"""Records of a table, in memory and on disk, beside lists of them."""

from __future__ import annotations

import pickle
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.names import stem_of
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.view import Records

ids = st.lists(st.text("aé/. b_", min_size=1, max_size=8), unique=True, max_size=12)


def record(number: int, id: str, folder: Path) -> Record:
    """One of several sizes, the half of them with a mask."""
    mask = folder / f"{number}.png" if number % 3 else None
    pixels = (number, 1) if mask else ()
    return Record(id, folder / f"{number}.jpg", mask, 10 + number % 4, 20, pixels)


def listed(names: list[str], folder: Path) -> list[Record]:
    names = [name for name in names if not name.startswith("/") and ".." not in name.split("/")]
    return [record(number, name, folder) for number, name in enumerate(names)]


def on_disk(records: list[Record], folder: Path) -> Records:
    """The same, written and read; every other one is for validation, so that those here are not one range of rows."""
    val = [replace(each, id=f"val/{each.id}") for each in records]
    write_dataset(Dataset("d", "folder", folder, ("a", "b"), ((0, 0, 0),) * 2, records, val), {})
    found = load_dataset(folder.parent, "d")
    assert found.val == val
    return found.training


def in_memory(records: list[Record], folder: Path) -> Records:
    return Records.of(records)


kinds = pytest.mark.parametrize("made", [in_memory, on_disk])
often = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@kinds
@often
@given(names=ids, data=st.data())
def test_they_are_what_lists_are(made, names, data, tmp_path):
    expected = listed(names, tmp_path / "d")
    records = made(expected, tmp_path / "d")
    assert records == expected
    assert expected == [records[place] for place in range(len(records))]
    assert [records[place] for place in range(-len(records), 0)] == expected
    for place in (len(records), -len(records) - 1):
        with pytest.raises(IndexError):
            records[place]
    start, stop = (data.draw(st.integers(-3, 13)) for _ in range(2))
    assert list(records[start:stop]) == expected[start:stop]
    assert list(records[::-2]) == expected[::-2]
    assert list(records.masked) == [each for each in expected if each.mask]
    assert list(records.unmasked) == [each for each in expected if not each.mask]
    chosen = data.draw(st.sets(st.sampled_from(range(len(expected))))) if expected else set()
    some = records.only(chosen)
    assert list(some) == [expected[place] for place in sorted(chosen)]
    assert list(records.without(some)) == [each for each in expected if each not in list(some)]
    assert some.places_in(records).at(np.arange(len(some))).tolist() == sorted(chosen)
    assert list(some.shown_bare()) == [replace(each, mask=None, pixels=()) for each in some]
    assert not len(some.shown_bare().masked)
    assert records.have_masks(np.arange(len(records))).tolist() == [bool(each.mask) for each in expected]
    assert pickle.loads(pickle.dumps(records)) == expected


@kinds
@often
@given(names=ids)
def test_they_are_found_by_their_names(made, names, tmp_path):
    records = made(expected := listed(names, tmp_path / "d"), tmp_path / "d")

    def composed(name):
        return unicodedata.normalize("NFC", name)

    for name in {*map(composed, names), *(composed(stem_of(name)) for name in names), "nobody"}:
        assert records.named(name) == [
            place for place, each in enumerate(expected) if name in (composed(each.id), composed(stem_of(each.id)))
        ]


@kinds
@given(count=st.integers(0, 9))
@often
def test_their_sizes_are_known_without_them(made, count, tmp_path):
    records = made(expected := listed([str(number) for number in range(count)], tmp_path / "d"), tmp_path / "d")
    sizes = [(each.height, each.width) for each in expected]
    assert [tuple(records.sizes[records.shape(place)]) for place in range(count)] == sizes
    assert [tuple(records.sizes[n]) for _, numbers in records.shapes() for n in numbers] == sizes
    counts = records.size_counts()
    assert {tuple(size): n for size, n in zip(records.sizes, counts, strict=True) if n} == {
        size: sizes.count(size) for size in sizes
    }


def test_a_mark_is_of_the_index_and_of_which_they_are(tmp_path):
    records = on_disk(listed(list("abcdef"), tmp_path / "d"), tmp_path / "d")
    marks = [each.mark for each in (records, records[1:], records.only([1, 2]), records.only([1, 2]).shown_bare())]
    assert len(set(marks)) == 4
    assert load_dataset(tmp_path, "d").training[1:].mark == marks[1]
    write_dataset(replace(load_dataset(tmp_path, "d"), val=()), {})
    assert load_dataset(tmp_path, "d").training.mark != marks[0]
    assert Records.of([]).mark == ""
