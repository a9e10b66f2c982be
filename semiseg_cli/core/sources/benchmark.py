"""What published benchmarks have in common: images stay where they are, labels become 8-bit index PNGs once."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semiseg_cli.core.data.decode import decode_image
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.photos import image_size
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, few
from semiseg_cli.core.sources.codes import LabelMap
from semiseg_cli.core.sources.copies import Refusal
from semiseg_cli.core.sources.rasters import read_codes
from semiseg_cli.core.sources.sbd import read_mat


@dataclass(frozen=True)
class Task:
    """One image of a benchmark, the file of its label, and what the label's values stand for."""

    id: str
    part: str
    image: Path
    label: Path
    label_map: LabelMap


def convert(task: Task, folder: Path, *, jpg: bool = False) -> Record | Refusal:
    """Write `folder/masks/<id>.png`, and with `jpg` `folder/images/<id>.jpg`; the image itself is referenced else."""
    try:
        height, width = image_size(task.image)
        codes = read_mat(task.label) if task.label.suffix == ".mat" else read_codes(task.label)
    except DataError as error:
        return Refusal("unreadable", f"{error.what}{error.why and f' ({error.why})'}")
    if codes.shape != (height, width):
        return Refusal("sizes", f"{task.image} is {width}x{height}, {task.label} {codes.shape[1]}x{codes.shape[0]}")
    mask, strange = task.label_map(codes)
    if strange:
        return Refusal("values", str(task.label), strange)
    file = write_image(below(folder / "masks", f"{task.id}.png"), mask)
    image = write_image(below(folder / "images", f"{task.id}.jpg"), decode_image(task.image)) if jpg else task.image
    pixels = tuple(np.bincount(mask.ravel(), minlength=256)[: task.label_map.classes].tolist())
    return Record(task.id, image, file, height, width, pixels)


def is_current(task: Task, done: Record) -> bool:
    """Whether neither the image nor its label was changed, or put there, after the mask was written."""
    assert done.mask is not None
    written = done.mask.stat().st_mtime_ns
    return all(max(s.st_mtime_ns, s.st_ctime_ns) <= written for s in (task.image.stat(), task.label.stat()))


def names(folder: Path) -> set[str]:
    """The files in a folder, one listing instead of a question for every file; empty where there is no folder."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def demand(place: Path, what: str, missing: Collection[str], total: int, fix: str) -> None:
    """Raise the DataError of a half-unpacked tree, naming the first missing files; nothing if none is missing."""
    if missing:
        said = f"{place} is incomplete: {len(missing)} of {total} {what} are missing"
        raise DataError(said, why=few(sorted(missing)), fix=fix)
