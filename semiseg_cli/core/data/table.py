"""The rows of a prepared dataset's `index.tsv`, each read from the file when it is asked for."""

from __future__ import annotations

import shlex
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.again import anew
from semiseg_cli.core.data.indexing import NAME, columns_of, key_of, text_of
from semiseg_cli.core.data.lines import parse_line
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.view import MANY, Records, names_of
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.reading import WHOLE, At, opened

INDEX = "index.tsv"


class IndexTable:
    """A table (`view.Table`) of which two files are open, and nothing but what is short is in memory.

    classes: how many the dataset has. Raises DataError where the index is absent or damaged, and reading a row of it
    does, where the file was changed since.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self.folder, self.classes = folder, classes
        try:
            with opened(folder / INDEX, WHOLE) as text:
                self._columns = columns_of(folder, text, classes)
                self._text = At(text)
        except (OSError, ValueError) as error:
            what = f"the dataset in {folder} is damaged"
            raise DataError(what, why=f"{INDEX}, {error}", fix=anew(folder)) from error
        self.mark, self.masked, self.sizes = self._columns.sha256, self._columns.masked, self._columns.sizes

    def __reduce__(self) -> tuple[type[IndexTable], tuple[Path, int]]:
        """A spawned process opens the files itself."""
        return IndexTable, (self.folder, self.classes)

    @property
    def train(self) -> Records:
        return Records(self, self._columns.train)

    @property
    def val(self) -> Records:
        return Records(self, self._columns.val)

    def __len__(self) -> int:
        return self._columns.count

    def rows(self, start: int, stop: int) -> list[Record]:
        row = start
        try:
            ends = self._columns.numbers("ends", start, stop + 1).tolist()
            # with the end of the line before: where a line begins elsewhere, it is not one
            data = self._text.read(ends[0] - 1, ends[-1])
            found = list[Record]()
            for row, (begin, end) in enumerate(pairwise(ends), start):  # noqa: B007  (it names the line of an error)
                line = data[begin - ends[0] : end - ends[0] + 1]
                if line[:1] != b"\n" or line.count(b"\n") != 2:
                    raise ValueError("no line begins or ends there")
                found.append(parse_line(text_of(line[1:]), self.classes).record(self.folder))
        except (OSError, ValueError) as error:
            raise self._changed(f"line {row + 2}: {error}") from error
        return found

    def shapes(self, start: int, stop: int) -> NDArray[np.int32]:
        found = self._numbers("shape", start, stop)
        if len(found) and not 0 <= found.min() <= found.max() < len(self.sizes):
            raise self._changed(f"{NAME} names sizes that it does not have")
        return found

    def named(self, name: str) -> list[int]:
        """Those with the hash of this name, without the rows of another name that has the same."""
        key, rows, step = key_of(name), list[int](), max(self._stride, 256)
        place = max(int(self._fence.searchsorted(key)) - 1, 0) * self._stride
        while place < self._columns.keys:
            keys = self._numbers("keys", place, min(place + step, self._columns.keys))
            for each in (place + np.flatnonzero(keys == key)).tolist():
                rows += self._numbers("rows", each, each + 1).tolist()
            place += step
            if keys[-1] > key:
                break
        return sorted(row for row in rows if name in names_of(self.rows(row, row + 1)[0].id))

    @property
    def _stride(self) -> int:
        return max(1, self._columns.keys // MANY)

    @cached_property
    def _fence(self) -> NDArray[np.int64]:
        """Every key of a small table, and so many of a large one: which block has a key."""
        size = 2**16 * self._stride
        blocks = range(0, self._columns.keys, size)
        found = [self._numbers("keys", start, min(start + size, self._columns.keys)) for start in blocks]
        return np.concatenate([block[:: self._stride] for block in found] or [np.zeros(0, np.int64)])

    def _numbers(self, name: str, start: int, stop: int) -> NDArray[Any]:
        try:
            return self._columns.numbers(name, start, stop)
        except (OSError, ValueError) as error:
            raise self._changed(f"{NAME}: {error}") from error

    def _changed(self, why: str) -> DataError:
        what = f"the dataset in {self.folder} is damaged, or was changed while it was in use"
        fix = f"{shlex.join(['rm', str(self.folder / NAME)])}, then the same command: it reads {INDEX} anew"
        return DataError(what, why=f"{INDEX}, {why}", fix=fix)
