"""The file of many images' features: a float16 row each, written by place as they come, resumed where they stopped."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.reading import read_json, regular

SECONDS = 10.0  # after which progress is recorded


class Written(TypedDict):
    """What an earlier version wrote of how far a file has been written."""

    done: int
    count: int
    width: int


@dataclass(frozen=True)
class Features:
    """The file of `count` rows of `width` numbers, and beside it which of them are there."""

    path: Path
    count: int
    width: int

    def read(self, rows: Any) -> Tensor:
        """Some rows as float32 (N, width), of images that could be read. DataError where one is not finite.

        The file is mapped for this call only: a mapping counts as memory.
        """
        mapped = np.memmap(self.path, np.float16, "r", shape=(self.count, self.width))
        x_ND = torch.from_numpy(np.array(mapped[rows])).float()
        if not x_ND.isfinite().all():
            fix = f"{shlex.join(['rm', str(self.path)])}, and the same command makes it anew"
            raise DataError(f"{self.path} is damaged", why="it has numbers that are not finite", fix=fix)
        return x_ND

    def column(self) -> NDArray[np.float16]:
        """The first number of every row: NaN where the image could not be read."""
        return np.array(np.memmap(self.path, np.float16, "r", shape=(self.count, self.width))[:, 0])

    @property
    def marks(self) -> Path:
        """A byte for every group of images, 1 where its rows are in the file; those at the end may be missing."""
        return self.path.with_suffix(".done")

    def begin(self) -> bytes:
        """The marks, of files that are made here if they are not there, or not as long as they should be.

        OSError where something else than a file has one of their names.
        """
        for path in (self.path, self.marks):
            if path.exists():
                regular(path)
        try:
            if self.path.stat().st_size == 2 * self.count * self.width:
                return self.marks.read_bytes() if self.marks.is_file() else self._marked_before()
        except (OSError, ValueError):
            pass
        with self.path.open("wb") as file:
            file.truncate(2 * self.count * self.width)
        self.marks.write_bytes(b"")
        return b""

    def _marked_before(self) -> bytes:
        """Of a file of an earlier version, whose record said how many of the first groups are in it."""
        record = read_json(self.path.with_suffix(".json"), Written)
        if (record["count"], record["width"]) != (self.count, self.width):
            raise ValueError("other features")
        found: bytes = b"\1" * min(record["done"], self.count)
        self.marks.write_bytes(found)
        return found


class Writer:
    """Rows of features written by place, each process's by itself; groups are marked once their rows are on the disk.

    Positions are written, and nothing is mapped: several machines may share the file.
    """

    def __init__(self, features: Features) -> None:
        self.width, self.waiting, self.saved = features.width, list[int](), time.monotonic()
        self._rows, self._marks = (os.open(path, os.O_WRONLY) for path in (features.path, features.marks))

    def put(self, place: int, row: NDArray[np.float16]) -> None:
        os.pwrite(self._rows, row.tobytes(), 2 * self.width * place)

    def done(self, group: int) -> None:
        self.waiting.append(group)
        if time.monotonic() - self.saved >= SECONDS:
            self.save()

    def save(self) -> None:
        os.fsync(self._rows)
        for group in self.waiting:
            os.pwrite(self._marks, b"\1", group)
        self.waiting, self.saved = [], time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        """Also where it was interrupted, or an image is damaged: what is done is kept."""
        try:
            self.save()
        finally:
            os.close(self._rows)
            os.close(self._marks)
