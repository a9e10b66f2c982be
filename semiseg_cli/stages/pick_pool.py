"""What photos are picked from: those of a prepared dataset that have no mask, or all of a bare folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.data.photos import opened, read_image
from semiseg_cli.core.data.spans import Spans
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import DataError, few_lines
from semiseg_cli.core.inference.features import Load
from semiseg_cli.core.partitions.pairs import folder_of
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.sources.folder import Folders, to_train
from semiseg_cli.stages.predicted_photos import find_images
from semiseg_cli.stages.progress import Progress

TURNED = range(5, 9)  # EXIF orientations in which height and width change places
Note = Callable[[str], None]


@dataclass(frozen=True)
class Pool:
    """records: all images whose features are computed; labeled, free: places of some of them.

    load: reads an image. features: the folder of their features. dataset: None for a folder. originals: finds the
    user's own files by id, where `records` are copies of them. masks: where the user's masks lie; "": it is not known.
    unreadable: what is wrong, a line for each file.
    """

    name: str
    records: Records
    labeled: Spans
    free: Spans
    load: Load
    features: Path
    dataset: Dataset | None = None
    originals: Callable[[], Mapping[str, Path]] = dict
    masks: str = ""
    unreadable: tuple[str, ...] = ()

    def original(self, place: int) -> Path:
        """The user's file of an image."""
        record = self.records[place]
        return self.originals().get(record.id, record.image)


def of_dataset(root: Path, name: str, labeled: str, note: Note) -> Pool:
    """Without the validation images. labeled: as for `train`, which images count as labeled; "": all with a mask."""
    dataset = load_dataset(root, name)
    if labeled:
        partition = resolve_partition(dataset, labeled)
        first, rest = Records.of(partition.labeled), Records.of(partition.unlabeled)
    else:
        first, rest = dataset.labeled, dataset.pool
    if not rest:
        what = f"every training image of {name} is labeled"
        raise DataError(what, fix="name a folder of photos instead, or say which count as labeled: --labeled 6")
    known, free = (records.places_in(dataset.training) for records in (first, rest))
    originals = cache(lambda: _originals(dataset, note))  # asked for when the photos are picked
    masks = manifest(dataset.root).get("source", {}).get("masks", "")
    return Pool(name, dataset.training, known, free, decode_record, folder_of(dataset), dataset, originals, masks)


def of_folder(folder: Path, root: Path, out: Path, note: Note, progress: Progress) -> Pool:
    """All photos below a folder. Their features go below the data root, as those of prepared ones."""
    files = find_images([folder], out, note)
    records, unreadable = list[Record](), list[str]()
    with progress("looking at photos", len(files)) as advance:
        for id, path in files.items():
            try:
                records.append(Record(id, path, None, *upright_size(path)))
            except DataError as error:
                unreadable.append(f"{path}: {error.why or error.what}")
            advance()
    if not records:
        what = f"none of the {len(files)} photos in {folder} can be read"
        raise DataError(what, why=few_lines(unreadable), fix="repair or convert them")
    every = Spans([(0, len(records))])
    features = root / ".features"
    return Pool(str(folder), Records.of(records), Spans(), every, read_photo, features, unreadable=tuple(unreadable))


def read_photo(record: Record) -> NDArray[np.uint8]:
    """Anybody's photo."""
    return read_image(record.image)


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of a photo as it is seen, from its header."""
    with opened(path) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(0x0112) in TURNED else (height, width)


def _originals(dataset: Dataset, note: Note) -> dict[str, Path]:
    """The user's own files by id: masks must be as large as they are, and copies may be smaller."""
    if dataset.kind != "folder":
        return {}
    try:
        return to_train(Folders.of(manifest(dataset.root).get("source", {})))
    except DataError as error:
        note(f"the dataset's copies are picked, which may be smaller than your photos: {error.what}")
        return {}
