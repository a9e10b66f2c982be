"""Lists of images: what a line of one stands for, and which images of a dataset it names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from semiseg_cli.core.data.names import path_of, read_lines, shared_start, stem_of
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import DataError, counted, few, verb

_HEADER = re.compile(
    r"(image|img|photo|file|name|path|id|mask|label|target|annotation|split|s|_|\W)+", re.IGNORECASE
)  # the columns of a table of images


@dataclass(frozen=True)
class Lists:
    """The labeled training images, and the unlabeled ones; None where only the former are listed."""

    labeled: Records
    unlabeled: Records | None


class Named(NamedTuple):
    """An image that a line may mean: in which of the lists of records that were asked, where, and its id."""

    part: int
    place: int
    id: str


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
        return Lists(dataset.training.only(list(labeled)), None)
    unlabeled = names.unlabeled(pool)
    if both := sorted(labeled[place] for place in labeled.keys() & unlabeled.keys()):
        what = f"{counted(len(both), 'image')} of {place} {verb(len(both), 'is', 'are')} labeled and unlabeled at once"
        raise DataError(what, why=few(both), fix=f"remove them from {pool.name}")
    return Lists(dataset.training.only(list(labeled)), dataset.training.only(list(unlabeled)))


def read_list(file: Path, records: Records) -> Records:
    """Those of the records that a list names; lines that name none of them are left out."""
    found = [_matches(line, [records]) for line in read_lines(file)]
    return records.only([named[0].place for named in found if len(named) == 1])


class _Names:
    """Which images of a dataset the lines of a list name: training images by their place, with their ids."""

    def __init__(self, dataset: Dataset) -> None:
        self.train, self.parts = dataset.training, [dataset.training, Records.of(dataset.val)]

    def labeled(self, file: Path) -> dict[int, str]:
        lines, ids, strange = self._read(file, masked=True)
        fix = "a line per labeled training image: its id as in index.tsv, or a path with the same name"
        if not lines:
            raise DataError(f"{file} names no image: it is empty", fix=fix)
        if strange:
            what = f"{_lines(strange, lines, file)} no labeled image of the dataset, or several"
            raise DataError(what, why=self._why(strange), fix=fix)
        return ids

    def unlabeled(self, file: Path) -> dict[int, str]:
        lines, ids, strange = self._read(file, masked=False)
        absent = [line for line, named in strange if not named]
        if len(absent) < len(strange) or (lines and not ids):
            raise DataError(
                f"{_lines(strange, lines, file)} no training image, or several",
                why=self._why(strange),
                fix="a line per training image: its id as in index.tsv, or a path with the same name",
            )
        if absent:
            what = f"{len(absent)} of {len(lines)} unlabeled images of {file} are not in the dataset"
            warnings.warn(f"{what} and are left out: {few(absent)}", stacklevel=2)
        return ids

    def _read(self, file: Path, masked: bool) -> tuple[list[str], dict[int, str], list[tuple[str, list[Named]]]]:
        """Lines; the training images that they name; and lines with what they may mean that do not name exactly one.

        masked: one that has a mask.
        """
        lines = read_lines(file)
        if lines and _HEADER.fullmatch(lines[0]) and not _matches(lines[0], self.parts):
            del lines[0]
        found = [(line, _matches(line, self.parts)) for line in lines]
        found = [(line, named) for line, named in found if line[0] != "#" or named]
        places = [named[0].place if len(named) == 1 and named[0].part == 0 else -1 for _, named in found]
        good = np.array(places) >= 0
        if masked:
            good[good] = self.train.have_masks(np.array(places)[good])
        ids = {place: named[0].id for place, (_, named), fits in zip(places, found, good, strict=True) if fits}
        if twice := int(good.sum()) - len(ids):
            warnings.warn(f"{file} names {counted(twice, 'image')} more than once", stacklevel=2)
        return [line for line, _ in found], ids, [each for each, fits in zip(found, good, strict=True) if not fits]

    def _why(self, lines: Sequence[tuple[str, list[Named]]]) -> str:
        groups: dict[str, list[str]] = {}
        for line, named in lines:
            kind = "without a mask" if named and named[0].part == 0 else "in the validation set"
            groups.setdefault({0: "not in the dataset", 1: kind}.get(len(named), "several images"), []).append(line)
        return "; ".join(f"{kind}: {few(some)}" for kind, some in groups.items())


def _called(name: str, parts: Sequence[Records]) -> list[Named]:
    """The images of this id, else those of this stem."""
    found = [
        Named(part, place, records[place].id) for part, records in enumerate(parts) for place in records.named(name)
    ]
    return [each for each in found if normalize("NFC", each.id) == name][-1:] or found


def _matches(line: str, parts: Sequence[Records]) -> list[Named]:
    """The images that a line may mean: of several with its stem those whose folders are most of the end of its path."""
    line = normalize("NFC", line)
    found = _called(line, parts)
    if not found:
        line = line.replace('"', "").rstrip(",; ")  # of the cells of a table
        found = _called(stem_of(line), parts)
    if len(found) < 2:
        return found
    folders = path_of(line).split("/")[-2::-1]
    shared = [shared_start(folders, normalize("NFC", each.id).split("/")[-2::-1]) for each in found]
    return [each for each, count in zip(found, shared, strict=True) if count == max(shared)]


def _lines(strange: Sequence[object], lines: Sequence[str], file: Path) -> str:
    return f"{len(strange)} of {counted(len(lines), 'line')} of {file} {verb(len(strange), 'names', 'name')}"
