"""Which images of an unfinished dataset are done, so that a run that was killed is gone on with where it stood.

`<folder>/unfinished.tsv` begins with a line that says what is being prepared; each line after it is a record as in
`index.tsv`, written after the files it names. A last line without its end is not read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from semiseg_cli.core.data.lines import parse_line, record_line
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.files import write_bytes
from semiseg_cli.core.reading import SMALL, opened, parse_json, read_bytes

UNFINISHED = "unfinished.tsv"


def begun(folder: Path) -> dict[str, Any]:
    """What an unfinished dataset is made of: the `key` of its journal; empty where there is none."""
    try:
        with opened(folder / UNFINISHED) as file:
            found: dict[str, Any] = parse_json(file.readline(SMALL).decode("utf-8"), dict[str, Any])
    except (OSError, ValueError):
        return {}
    return found


class Journal:
    """An open journal. `done`: records by id, as an earlier run with the same `key` left them; empty without one.

    key: plain values that say what is prepared. Several threads may `add` at once.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / UNFINISHED
        self.done: dict[str, Record] = {}
        first = f"{json.dumps(key, sort_keys=True)}\n".encode()
        data = read_bytes(self.path) if self.path.is_file() else b""
        data = data[: data.rfind(b"\n") + 1]
        if not data.startswith(first):
            data = first
        for line in data.decode("utf-8", "replace").split("\n")[1:-1]:
            try:
                record = parse_line(line).record(folder)
            except ValueError:
                continue  # a full disk took the rest of the line
            if record.mask and record.mask.is_file() and record.mask.stat().st_size:
                self.done[record.id] = record
        write_bytes(self.path, data)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def add(self, part: str, record: Record) -> None:
        """Note that the files of this record are written. One call to the system, so lines never mix."""
        os.write(self._file, f"{record_line(part, record, self.folder)}\n".encode())

    def remove(self) -> None:
        """The dataset is finished."""
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
