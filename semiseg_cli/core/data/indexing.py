"""Where the lines of an `index.tsv` are: `index.safetensors` beside it, made as the index is written.

An index is read line by line once; what is found is kept with its size, time and sha256, and whoever opens the dataset
afterwards reads single lines. One that is absent, of another index, or damaged is made anew, which checks every line.

    ends    int64 (n + 1)   where each row's line ends, and before them the header
    shape   int32 (n)       the place of each row's height and width among
    sizes   int32 (S, 2)    those that occur
    train, val, masked      int64 (R, 2), ranges of rows: of the two parts, and of those with a mask
    keys    int64 (m)       what rows may be called (`names_of`), as sorted hashes, and
    rows    int32 (m)       the rows that they are of
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.lines import HEADER, parse_line
from semiseg_cli.core.data.spans import Spans
from semiseg_cli.core.data.view import names_of
from semiseg_cli.core.files import whole
from semiseg_cli.core.reading import At, opened
from semiseg_cli.core.tensors import header, write_arrays

NAME, SCHEMA = "index.safetensors", "1"
SETTLED = 2 * 10**9  # nanoseconds after which a file that changes has another time, on any file system
TYPES = {
    "ends": "I64", "shape": "I32", "sizes": "I32", "train": "I64", "val": "I64", "masked": "I64", "keys": "I64",
    "rows": "I32",
}  # fmt: skip
SHORT = ("sizes", "train", "val", "masked")


class Columns:
    """The arrays of such a file, of which only the short ones are read. Raises ValueError for any other file."""

    def __init__(self, file: IO[bytes]) -> None:
        found = os.fstat(file.fileno())
        self._entries, self._meta, self._begin = header(file, found.st_size)
        self._file, self._written = At(file), found.st_mtime_ns
        if {name: entry["dtype"] for name, entry in self._entries.items()} != TYPES:
            raise ValueError("it is of another kind")
        self.count, self.keys = self._length("shape"), self._length("keys")
        if self._length("ends") != self.count + 1 or self._length("rows") != self.keys:
            raise ValueError("its arrays are not of one length")
        short = {name: self.numbers(name) for name in SHORT}
        if self._meta.get("short") != _digest(short):
            raise ValueError("its numbers are not those that were written")
        self.sizes = short["sizes"].reshape(-1, 2)
        self.train, self.val, self.masked = (Spans(short[name]) for name in ("train", "val", "masked"))

    def _length(self, name: str) -> int:
        return math.prod(self._entries[name]["shape"])

    def numbers(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The numbers of an array, taken as flat, from `start` up to `stop`. Raises OSError and ValueError."""
        first, last = (self._begin + offset for offset in self._entries[name]["data_offsets"])
        kind = np.dtype("<i8" if TYPES[name] == "I64" else "<i4")
        end = last if stop is None else first + stop * kind.itemsize
        if end > last:
            raise ValueError(f"{name} ends before that")
        return np.frombuffer(self._file.read(first + start * kind.itemsize, end), kind)

    @property
    def sha256(self) -> str:
        """Of the index."""
        return self._meta["sha256"]

    def fits(self, text: BufferedReader) -> bool:
        """Whether they are of this index: by its size and time, and where a change might not show there by sha256."""
        if any(self._meta.get(key) != value for key, value in _state(text).items()):
            return False
        settled = self._written - os.fstat(text.fileno()).st_mtime_ns > SETTLED
        return settled or hashlib.file_digest(text, "sha256").hexdigest() == self.sha256


def columns_of(folder: Path, text: BufferedReader, classes: int) -> Columns:
    """Those of the open index of a folder, made where they are not there. Raises ValueError for a damaged index."""
    try:
        with opened(folder / NAME) as file:
            found = Columns(file)
        if found.fits(text):
            return found
    except (OSError, ValueError):
        pass  # none, or a damaged one: what it said is found again
    text.seek(0)
    made = indexed(text, classes)
    try:
        made.save(folder, text)
        with opened(folder / NAME) as file:
            return Columns(file)
    except OSError:  # nobody may write there
        with tempfile.TemporaryFile() as file:
            made.write(file, text)
            file.seek(0)
            return Columns(file)


def indexed(text: IO[bytes], classes: int) -> Indexer:
    """Read a whole index. Raises ValueError, with the line, for one that is not as it is written."""
    made, number = Indexer(classes), 1
    try:
        made.begin(text.readline())
        for number, line in enumerate(text, 2):  # noqa: B007  (it names the line of an error)
            made.add(line)

        def id_of(row: int) -> str:
            text.seek(made.ends[row])
            return text.readline().split(b"\t")[0].decode()

        if made.twice(id_of):
            raise ValueError("ids stand there twice")
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    return made


class Indexer:
    """What is found in an index, line after line: `begin` is given the first, `add` each of the others."""

    def __init__(self, classes: int) -> None:
        self.classes, self.sha256 = classes, hashlib.sha256()
        self.ends, self.shape, self.sizes = array("q"), array("i"), dict[tuple[int, int], int]()
        self.spans: dict[str, list[list[int]]] = {"train": [], "val": [], "masked": []}
        self.ids, self.keys, self.rows = array("q"), array("q"), array("i")

    def begin(self, line: bytes) -> None:
        if line.rstrip(b"\r\n") != HEADER.encode() or not line.endswith(b"\n"):
            raise ValueError("its header is not as written")
        self._pass(line, 0)

    def add(self, line: bytes) -> None:
        """Take a line, with its end. Raises ValueError for one that is not as `record_line` writes it."""
        row, found = len(self.shape), parse_line(text_of(line), self.classes)
        self._pass(line, self.ends[-1])
        self.shape.append(self.sizes.setdefault((found.height, found.width), len(self.sizes)))
        for kind in (found.part, *["masked"] * (found.mask is not None)):
            spans = self.spans[kind]
            if spans and spans[-1][1] == row:
                spans[-1][1] = row + 1
            else:
                spans.append([row, row + 1])
        self.ids.append(key_of(found.id))
        for name in names_of(found.id):
            self.keys.append(key_of(name))
            self.rows.append(row)

    def _pass(self, line: bytes, begin: int) -> None:
        self.sha256.update(line)
        self.ends.append(begin + len(line))

    def twice(self, id_of: Callable[[int], str]) -> list[str]:
        """Ids that more than one row has. id_of: of a row; asked where hashes are the same."""
        keys = np.array(self.ids)
        order = keys.argsort()
        same = keys[order[1:][keys[order[1:]] == keys[order[:-1]]]]
        alike = np.flatnonzero(np.isin(keys, same)).tolist() if len(same) else []
        return [id for id, count in Counter(map(id_of, alike)).items() if count > 1]

    def save(self, folder: Path, text: IO[bytes]) -> None:
        """Write the file of an index that is in `text`, whole or not at all."""
        with whole(folder / NAME) as new, new.open("wb") as file:
            self.write(file, text)

    def write(self, file: IO[bytes], text: IO[bytes]) -> None:
        keys = np.frombuffer(self.keys, np.int64)
        order = keys.argsort(kind="stable")
        arrays: dict[str, NDArray[Any]] = {
            "ends": np.frombuffer(self.ends, np.int64),
            "shape": np.frombuffer(self.shape, np.int32),
            "sizes": np.array(list(self.sizes), np.int32),
            **{kind: np.array(spans, np.int64) for kind, spans in self.spans.items()},
            "keys": keys[order],
            "rows": np.frombuffer(self.rows, np.int32)[order],
        }
        said = {"sha256": self.sha256.hexdigest(), "short": _digest(arrays)}
        write_arrays(file, arrays, _state(text) | said)


def _state(text: IO[bytes]) -> dict[str, str]:
    """What tells an index from another one without reading it."""
    found = os.fstat(text.fileno())
    return {"schema": SCHEMA, "bytes": str(found.st_size), "mtime_ns": str(found.st_mtime_ns)}


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of those that are in memory as long as the dataset is open, and decide which rows are which."""
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in SHORT)).hexdigest()


def text_of(line: bytes) -> str:
    """A line without its end. Raises ValueError for one that is cut, or is no UTF-8."""
    if not line.endswith(b"\n"):
        raise ValueError("it ends before its line does")
    return line.decode().removesuffix("\n").removesuffix("\r")


def key_of(name: str) -> int:
    """What a name is sorted and sought by."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
