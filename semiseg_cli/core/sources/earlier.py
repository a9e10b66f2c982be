"""Working copies of an earlier preparation that are as good as new ones: made from the same files, in the same way.

`sources.tsv` of a dataset has a line for each image: its id, a mark of what its copy was made from and how, and the
digest of its pixels.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from semiseg_cli.core.data.again import anew
from semiseg_cli.core.data.depths import Levels
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.reading import WHOLE, Side, read_bytes, read_text, shaped
from semiseg_cli.core.settings import Natural
from semiseg_cli.core.sources.copies import Copy, Source
from semiseg_cli.core.sources.masks import Masks

_FILE = "sources.tsv"
_LINE = re.compile(r"([^\t]+)\t([0-9a-f]{64})\t([0-9a-f]{64})")
_VERSION = 1  # goes up when the same files give another copy


class How(TypedDict):
    """What `source` says of how the dataset was made, beside its folders (`Folders`)."""

    map: dict[str, Natural]
    ignore: int
    long_side: Side
    classes: str
    first: NotRequired[Natural]
    unknown: NotRequired[str]
    reading: NotRequired[str]
    orientation: NotRequired[str]
    levels: NotRequired[tuple[Natural, Natural]]
    in_place: NotRequired[bool]


class Made(TypedDict):
    source: How
    classes_file: NotRequired[str]


def check_made(table: Mapping[str, Any], folder: Path) -> None:
    """Raise DataError where `dataset.toml` does not tell how the dataset was made, or its classes lie elsewhere."""
    try:
        shaped(dict(table), Made)
        below(folder, table.get("classes_file", ""))
    except ValueError as error:
        why = error.what if isinstance(error, DataError) else str(error)
        raise DataError(f"{folder / 'dataset.toml'} is damaged", why=why, fix=anew(folder)) from error


def mark(source: Source, masks: Masks, long_side: int, levels: Levels, in_place: bool = False) -> str:
    """What a copy depends on: the photo by its size and time, the mask by its bytes. Empty where that is not known."""
    try:
        photo = source.image.stat()
        state = [_VERSION, source.image.suffix.lower(), photo.st_size, photo.st_mtime_ns, long_side, *levels]
        state += ["in place"] * in_place
        if source.mask:
            if not masks.meaning:
                return ""
            drawn = hashlib.sha256(read_bytes(source.mask, WHOLE)).hexdigest()
            state += [drawn, masks.turns.get(source.mask, 1), masks.meaning.key]
    except OSError:
        return ""
    return hashlib.sha256(repr(state).encode()).hexdigest()


class Earlier:
    """The copies of a dataset, by what they were made from; none for None and where it does not tell."""

    def __init__(self, dataset: Dataset | None) -> None:
        records = {record.id: record for record in (*dataset.train, *dataset.val)} if dataset else {}
        self.root = dataset.root if dataset else Path()
        self.copies: dict[str, tuple[str, Copy]] = {}
        try:
            lines = read_text(self.root / _FILE).splitlines() if dataset else []
        except (OSError, ValueError):
            return
        for found in map(_LINE.fullmatch, lines):
            if found and found[1] in records:
                self.copies[found[1]] = found[2], Copy(records[found[1]], bytes.fromhex(found[3]))

    def again(self, source: Source, made: str, folder: Path) -> Copy | None:
        """The copy of this image with its files below `folder`; None if there is none that was made so."""
        before, copy = self.copies.get(source.id, ("", None))
        if copy is None or not made or made != before:
            return None
        record = copy.record
        files = [file for file in (record.mask, *[record.image] * (not record.bytes)) if file]
        if not all(file.is_file() and file.is_relative_to(self.root) for file in files):
            return None
        new = {file: _link(file, folder / file.relative_to(self.root)) for file in files}
        image, mask = new.get(record.image, source.image.absolute()), record.mask and new[record.mask]
        return Copy(replace(record, image=image, mask=mask), copy.digest)


def _link(file: Path, new: Path) -> Path:
    """The same file in another place, without copying it where the disk can do that."""
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)
    return new


def write_marks(folder: Path, made: Mapping[str, tuple[str, bytes]]) -> None:
    """Keep what the copies of a dataset were made from. made: mark and digest by id."""
    lines = [f"{id}\t{mark}\t{digest.hex()}\n" for id, (mark, digest) in made.items() if mark]
    write_text(folder / _FILE, "".join(lines))
