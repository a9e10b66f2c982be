"""A record as a line of `index.tsv`, and back. Whoever wrote it, what a line says is looked at first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from semiseg_cli.core.data.names import unfit
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError

LONGEST = 1 << 20  # pixels of a side
COLUMNS = ("id", "part", "image", "mask", "height", "width", "pixels")
HEADER = "\t".join(COLUMNS)


class Row(NamedTuple):
    """What a line says; paths are as they stand there, mask is None for an image without one."""

    id: str
    part: str
    image: str
    mask: str | None
    height: int
    width: int
    pixels: tuple[int, ...]
    bytes: int = 0

    def record(self, folder: Path) -> Record:
        """Its record, in a dataset that is in `folder`."""
        mask = None if self.mask is None else _absolute(self.mask, folder)
        return Record(self.id, _absolute(self.image, folder), mask, self.height, self.width, self.pixels, self.bytes)


def record_line(part: str, record: Record, folder: Path) -> str:
    """A record as a line of `index.tsv`, without its end; DataError where a file name cannot stand in one."""
    mask = _relative(record.mask, folder) if record.mask else "-"
    pixels = " ".join(map(str, record.pixels)) if record.pixels else "-"
    fields = (record.id, part, _relative(record.image, folder), mask, record.height, record.width, pixels)
    line = "\t".join(map(str, fields + (record.bytes,) * bool(record.bytes)))
    if line.count("\t") != len(COLUMNS) - (not record.bytes) or "\n" in line:
        raise DataError(f"{record.image!s:.200} has a tab or a line break in its name", fix="rename the file")
    return line


def parse_line(line: str, classes: int = 0) -> Row:
    """What a line says. Raises ValueError for one that is not as `record_line` writes it.

    classes: so many pixels of a class there are; 0: it is not known.
    """
    id, part, image, mask, height, width, pixels, *rest = line.split("\t")
    if wrong := unfit(id) or ("has no part train or val" if part not in ("train", "val") else ""):
        raise ValueError(f"the image {id[:60]!r} {wrong}")
    if "\0" in line:
        raise ValueError(f"a path of {id[:60]!r} has a zero in it")
    counts = () if pixels == "-" else tuple(map(int, pixels.split(" ")))
    size = int(height), int(width)
    if not (min(size) > 0 and max(size) <= LONGEST):
        raise ValueError(f"{id[:60]!r} has {size[0]} x {size[1]} pixels")
    if min(counts, default=0) < 0 or (classes and len(counts) not in (0, classes)):
        raise ValueError(f"{id[:60]!r} has pixels of {len(counts)} classes: {pixels[:60]}")
    if len(rest) > 1 or min(length := tuple(map(int, rest)), default=1) < 1:
        raise ValueError(f"{id[:60]!r} has files of {' and '.join(rest)[:60]} bytes")
    return Row(id, part, image, None if mask == "-" else mask, *size, counts, *length)


def _relative(path: Path, folder: Path) -> str:
    """Relative below the dataset's folder or the data root, so that the data root can be moved; else absolute."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(folder)).parent
    return f"../{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else path.as_posix()


def _absolute(name: str, folder: Path) -> Path:
    base, name = (folder.parent, name[3:]) if name.startswith("../") else (folder, name)
    return Path(os.path.join(base, name))  # half the time of base / name
