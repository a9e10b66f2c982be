"""Which images a `semiseg predict` that was cut off has done: what goes on with it leaves them as they are.

`<out>/.predicting/` holds a file for every process, whose first line says which network predicts, and how; each line
after it is an image, written after its files. The folder is gone when all images are done: then the same command
predicts them anew. A last line without its end is not read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.shards import state_of
from semiseg_cli.core.files import write_bytes
from semiseg_cli.core.ops.processes import here, told
from semiseg_cli.core.reading import WHOLE, read_bytes
from semiseg_cli.stages.predicted_files import LABELS

FOLDER = ".predicting"


class Before:
    """done: marks of images whose files are there. `add` notes another one."""

    def __init__(self, out: Path, key: str) -> None:
        rank, _ = here()
        self.out, self.folder, first = out, out / FOLDER, f"{key}\n".encode()
        self.done = set[bytes]()
        if rank == 0:
            self.folder.mkdir(exist_ok=True)
            for path in self.folder.iterdir():
                if not self._read(path).startswith(first):
                    path.unlink()
        told(None)  # what is of another network is gone
        for path in self.folder.iterdir():
            self.done.update(self._read(path).split(b"\n")[1:-1])
        told(None)  # all have read
        path = self.folder / f"{rank}.txt"
        before = self._read(path) if path.is_file() else first
        write_bytes(path, before)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    @staticmethod
    def _read(path: Path) -> bytes:
        data = read_bytes(path, WHOLE)
        return data[: data.rfind(b"\n") + 1]

    def has(self, id: str, source: Path) -> bool:
        with suppress(OSError):
            return _mark(id, source) in self.done and (self.out / LABELS / f"{id}.png").is_file()
        return False

    def add(self, id: str, source: Path) -> None:
        with suppress(OSError):  # a photo that is gone by now is not there for the next either
            os.write(self._file, _mark(id, source) + b"\n")


def _mark(id: str, source: Path) -> bytes:
    """An image in a line: its name, and its file's size and time, or its place in which shard."""
    return " ".join([*map(str, state_of(source)), repr(id)]).encode()


@contextmanager
def going_on(out: Path, how: Mapping[str, Any]) -> Iterator[Before]:
    """What is done of the images, until all are. how: plain values, of which another one is another prediction."""
    before = Before(out, repr(sorted(how.items())))
    try:
        yield before
    finally:
        os.close(before._file)
    told(None)
    if here()[0] == 0:
        shutil.rmtree(before.folder, ignore_errors=True)
