"""Records as a sequence that reads them when they are asked for: of a table of them, those in some of its rows.

Whatever is done to a list of ten million images (take the labeled ones away, cut it, find one by its name) is done to
ranges of rows; a record is made when somebody looks at it.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, overload
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.names import stem_of
from semiseg_cli.core.data.spans import Numbers, Spans

if TYPE_CHECKING:
    from semiseg_cli.core.data.spec import Record

MANY = 2**18  # images; of more no command makes a list, or looks at one after the other, before it is asked to
BLOCK = 4096  # rows that are read at once


class Table(Protocol):
    """Records in rows.

    mark: sha256 of all that it holds; empty where it is not known. masked: rows with a mask. sizes: int32 (S, 2),
    every height and width that occurs, in the order of their first rows.
    """

    @property
    def mark(self) -> str: ...

    @property
    def masked(self) -> Spans: ...

    @property
    def sizes(self) -> NDArray[np.int32]: ...

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> list[Record]: ...

    def shapes(self, start: int, stop: int) -> NDArray[np.int32]:
        """For rows `start` up to `stop` the place of each one's size among `sizes`."""

    def named(self, name: str) -> list[int]:
        """Rows whose id or whose id's stem is this name, all in Unicode's composed form; ascending."""


class Held:
    """A table in memory."""

    mark = ""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)

    def __len__(self) -> int:
        return len(self.records)

    def rows(self, start: int, stop: int) -> list[Record]:
        return list(self.records[start:stop])

    @cached_property
    def masked(self) -> Spans:
        return Spans.of(row for row, record in enumerate(self.records) if record.mask is not None)

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        return np.array(list(self._shapes[0]), np.int32).reshape(-1, 2)

    def shapes(self, start: int, stop: int) -> NDArray[np.int32]:
        return self._shapes[1][start:stop]

    @cached_property
    def _shapes(self) -> tuple[dict[tuple[int, int], int], NDArray[np.int32]]:
        sizes: dict[tuple[int, int], int] = {}
        places = [sizes.setdefault((record.height, record.width), len(sizes)) for record in self.records]
        return sizes, np.array(places, np.int32)

    def named(self, name: str) -> list[int]:
        return self._names.get(name, [])

    @cached_property
    def _names(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for row, record in enumerate(self.records):
            for name in names_of(record.id):
                names.setdefault(name, []).append(row)
        return names


def names_of(id: str) -> set[str]:
    """What lists may call an image: its id and the stem of that, in Unicode's composed form."""
    return {normalize("NFC", id), normalize("NFC", stem_of(id))}


class Records(Sequence["Record"]):
    """The records in some rows of a table. bare: they are shown without a mask."""

    def __init__(self, table: Table, spans: Spans | None = None, bare: bool = False) -> None:
        self.table, self.bare = table, bare
        self.spans = Spans([(0, len(table))] if len(table) else ()) if spans is None else spans

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Any sequence of records as this one."""
        return records if isinstance(records, Records) else cls(Held(records))

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        if isinstance(place, slice):
            places = range(*place.indices(len(self)))
            if places.step != 1:
                return tuple(self[each] for each in places)
            return Records(self.table, self.spans.part(places.start, places.stop), self.bare)
        place = operator.index(place)
        if not -len(self) <= place < len(self):
            raise IndexError(f"record {place} of {len(self)}")
        row = self.spans.number(place % len(self))
        return self._shown(self.table.rows(row, row + 1)[0])

    def __iter__(self) -> Iterator[Record]:
        for start, stop in self.spans.blocks(BLOCK):
            for record in self.table.rows(start, stop):
                yield self._shown(record)

    def _shown(self, record: Record) -> Record:
        return replace(record, mask=None, pixels=()) if self.bare and record.mask is not None else record

    def __add__(self, others: Sequence[Record]) -> tuple[Record, ...]:
        return (*self, *others)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        if isinstance(other, Records) and (other.table, other.bare) == (self.table, self.bare):
            return self.spans == other.spans
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Records({list(self[:3])}{', ...' * (len(self) > 3)})"

    @property
    def masked(self) -> Records:
        """Those with a mask."""
        return Records(self.table, Spans() if self.bare else self.spans.meet(self.table.masked), self.bare)

    @property
    def unmasked(self) -> Records:
        return Records(self.table, self.spans if self.bare else self.spans.without(self.table.masked), self.bare)

    def only(self, places: Iterable[int]) -> Records:
        """Those at some places, each once, in the order in which they stand here."""
        rows = self.spans.at(np.unique(np.fromiter(places, np.int64)))
        return Records(self.table, Spans.of(rows), self.bare)

    def without(self, others: Records) -> Records:
        """Those that are not among some others of the same table."""
        assert others.table is self.table
        return Records(self.table, self.spans.without(others.spans), self.bare)

    def shown_bare(self) -> Records:
        """The same, without their masks."""
        return Records(self.table, self.spans, bare=True)

    def places_in(self, whole: Records) -> Spans:
        """Where they are in `whole`, of the same table, which has them all."""
        assert whole.table is self.table
        return self.spans.within(whole.spans)

    def have_masks(self, places: Any) -> NDArray[np.bool_]:
        """Whether those at some places have a mask."""
        rows = self.spans.at(places)
        return np.zeros(rows.shape, bool) if self.bare else self.table.masked.places(rows) >= 0

    def named(self, name: str) -> list[int]:
        """Places of those whose id, or whose id's stem, is a name in Unicode's composed form."""
        places = self.spans.places(np.array(self.table.named(name), np.int64))
        found: list[int] = places[places >= 0].tolist()
        return found

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Heights and widths, those of a whole table: int32 (S, 2)."""
        return self.table.sizes

    def shapes(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """For all of them the place of each one's size among `sizes`: block by block, with where that begins."""
        begin = 0
        for start, stop in self.spans.blocks(MANY):
            yield begin, self.table.shapes(start, stop)
            begin += stop - start

    def shape(self, place: int) -> int:
        """The same for one."""
        row = self.spans.number(place)
        return int(self.table.shapes(row, row + 1)[0])

    def size_counts(self) -> Numbers:
        """How many have each of `sizes`."""
        counts = np.zeros(len(self.sizes), np.int64)
        for _, block in self.shapes():
            counts += np.bincount(block, minlength=len(counts))
        return counts

    @property
    def mark(self) -> str:
        """sha256 of which images they are, in which order, where the table says what it holds; else empty."""
        said = f"{self.table.mark} {self.bare}\n".encode() + self.spans.bounds.tobytes()
        return hashlib.sha256(said).hexdigest() if self.table.mark else ""
