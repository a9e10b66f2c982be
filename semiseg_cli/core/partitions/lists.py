"""Lists of images: what a line of one stands for, and which images of a dataset it names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from semiseg_cli.core.data.names import path_of, read_lines, stem_of
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError

_HEADER = re.compile(
    r"(image|img|photo|file|name|path|id|mask|label|target|annotation|split|s|_|\W)+", re.IGNORECASE
)  # the columns of a table of images


@dataclass(frozen=True)
class Lists:
    """Ids of the labeled images, and of the unlabeled ones; None where only the former are listed."""

    labeled: frozenset[str]
    unlabeled: frozenset[str] | None


def read_lists(place: Path, dataset: Dataset) -> Lists:
    """The lists of a folder (`labeled.txt`, and `unlabeled.txt` if there is one), or one file of labeled images.

    A line is an id, or a path or pair of paths with the same stem; of several such images the one whose folders fit the
    path. A header and comments (#) are passed over. Warns about lines that stand there twice, and about unlabeled
    images that the dataset lacks. Raises DataError for a labeled line that does not name one labeled image,
    for an image of the validation set, and for one that is labeled and unlabeled.
    """
    file = place / "labeled.txt" if place.is_dir() else place
    names = _Names(dataset)
    labeled = names.labeled(file)
    pool = place / "unlabeled.txt"
    if not (place.is_dir() and pool.is_file()):
        return Lists(labeled, None)
    unlabeled = names.unlabeled(pool)
    if both := sorted(labeled & unlabeled):
        what = f"{len(both)} images of {place} are labeled and unlabeled"
        raise DataError(what, why=_some(both), fix=f"remove them from {pool.name}")
    return Lists(labeled, unlabeled)


def read_list(file: Path, records: Sequence[Record]) -> frozenset[str]:
    """Ids of those of the records that a list names; lines that name none of them are left out."""
    lines, found = read_lines(file), _by_name(records)
    return frozenset(ids[0] for line in lines if len(ids := _matches(line, found)) == 1)


class _Names:
    """Which images of a dataset the lines of a list name."""

    def __init__(self, dataset: Dataset) -> None:
        self.known = _by_name([*dataset.train, *dataset.val])
        self.train = {record.id for record in dataset.train}
        self.masked = {record.id for record in dataset.labeled}

    def labeled(self, file: Path) -> frozenset[str]:
        lines, ids, strange = self._read(file, self.masked)
        fix = "a line per labeled training image: its id as in index.tsv, or a path with the same name"
        if not lines:
            raise DataError(f"{file} names no image: it is empty", fix=fix)
        if strange:
            what = f"{len(strange)} of {len(lines)} lines of {file} name no labeled image of the dataset, or several"
            raise DataError(what, why=self._why(strange), fix=fix)
        return ids

    def unlabeled(self, file: Path) -> frozenset[str]:
        lines, ids, strange = self._read(file, self.train)
        absent = [line for line in strange if not _matches(line, self.known)]
        if len(absent) < len(strange) or (lines and not ids):
            raise DataError(
                f"{len(strange)} of {len(lines)} lines of {file} name no training image, or several",
                why=self._why(strange),
                fix="a line per training image: its id as in index.tsv, or a path with the same name",
            )
        if absent:
            what = f"{len(absent)} of {len(lines)} unlabeled images of {file} are not in the dataset"
            warnings.warn(f"{what} and are left out: {_some(absent)}", stacklevel=2)
        return ids

    def _read(self, file: Path, among: set[str]) -> tuple[list[str], frozenset[str], list[str]]:
        """Lines, the ids that they name, and the lines that do not name exactly one image, or none of `among`."""
        lines = read_lines(file)
        if lines and _HEADER.fullmatch(lines[0]) and not _matches(lines[0], self.known):
            del lines[0]
        lines = [line for line in lines if line[0] != "#" or _matches(line, self.known)]
        found = [_matches(line, self.known) for line in lines]
        named = [len(ids) == 1 and ids[0] in among for ids in found]
        ids = frozenset(ids[0] for ids, good in zip(found, named, strict=True) if good)
        if twice := sum(named) - len(ids):
            warnings.warn(f"{file} names {twice} images more than once", stacklevel=2)
        return lines, ids, [line for line, good in zip(lines, named, strict=True) if not good]

    def _why(self, lines: list[str]) -> str:
        groups: dict[str, list[str]] = {}
        for line in lines:
            ids = _matches(line, self.known)
            kind = "without a mask" if ids and ids[0] in self.train else "in the validation set"
            groups.setdefault({0: "not in the dataset", 1: kind}.get(len(ids), "several images"), []).append(line)
        return "; ".join(f"{kind}: {_some(some)}" for kind, some in groups.items())


def _by_name(records: Sequence[Record]) -> dict[str, list[str]]:
    """Ids by id and by stem, in Unicode's composed form."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(normalize("NFC", stem_of(record.id)), []).append(record.id)
    return found | {normalize("NFC", record.id): [record.id] for record in records}


def _matches(line: str, found: Mapping[str, list[str]]) -> list[str]:
    """The ids that a line may mean: of several with its stem those whose folders are most of the end of its path."""
    line = normalize("NFC", line)
    ids = found.get(line) or found.get(stem_of(line), [])
    if len(ids) < 2:
        return ids
    folders = path_of(line).split("/")[-2::-1]
    shared = [_shared(folders, normalize("NFC", id).split("/")[-2::-1]) for id in ids]
    return [id for id, count in zip(ids, shared, strict=True) if count == max(shared)]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words two sequences have in common, from their start."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _some(lines: Sequence[str]) -> str:
    return ", ".join(lines[:5]) + (", ..." if len(lines) > 5 else "")
