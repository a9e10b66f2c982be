"""Prepare Cityscapes: from the unpacked tree or from its two archives, which need a registration to be had.

Images stay where they are, or become JPEGs once: decoding a PNG of 2048x1024 pixels takes about three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources import archives, cityscapes
from semiseg_cli.core.sources.journal import begun
from semiseg_cli.stages.building import alone, interruptible, lost, made_of, place, ready, resumable
from semiseg_cli.stages.convert import convert_all
from semiseg_cli.stages.locate import Call, locate_cityscapes
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.repoint import repoint

FORMATS = ("none", "jpg")


def prepare_cityscapes(
    root: Path,
    *,
    name: str = "cityscapes",
    source: Path | None = None,
    archive: Sequence[Path] = (),
    convert: str | None = None,
    around: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Dataset:
    """Cityscapes' train and val with 19 classes, evaluated in windows of 801 pixels.

    source: the folder that holds leftImg8bit and gtFine; a prepared dataset takes its images from there from now on.
    archive: their zip files. convert: none or jpg; None: as it is prepared, else none. around: the folder in which,
    below and beside which data are looked for that nobody named. Without any of these: what is prepared or lies
    unpacked below `root`.
    Raises DataError with the way to the data where it is absent, and for data that is incomplete or damaged;
    Interrupted on Ctrl-C.
    """
    if convert not in (None, *FORMATS):
        raise UsageError(f"--convert {convert} is not possible", fix=f"--convert {' or '.join(FORMATS)}")
    with interruptible(f"preparing {name}"):
        before = made_of(root / name, "cityscapes")
        known = before or begun(root / name)
        call = Call(
            root, name, cityscapes.is_wanted, source, archive, around=around, note=note, progress=progress,
            before=known if "labels" in known else {},
        )  # fmt: skip
        if before and not (source or archive or convert) and not lost(root, name):
            return load_dataset(root, name)
        with alone(root, name):
            return _prepare(call, convert or known.get("convert", "none"), before)


def _prepare(call: Call, form: str, before: Mapping[str, Any]) -> Dataset:
    root, name, progress = call.root, call.name, call.progress
    images, masks = locate_cityscapes(call)
    described = {"images": place(images, root), "labels": place(masks, root), "convert": form}
    if before and before["convert"] == form and before != described:
        photos = {task.id: task.image for task in cityscapes.gather(images, masks)}
        repoint(root, name, images, photos, described, call.note)
    if there := ready(root, name, "cityscapes", described):
        return there
    try:
        tasks = cityscapes.gather(images, masks)
    except DataError:
        archives.reopen(images, root)
        archives.reopen(masks, root)
        raise
    with resumable(root, name, described) as journal:
        records = convert_all(
            tasks, journal, {}, cityscapes.CLASSES, jpg=form == "jpg", fix=cityscapes.UNPACK, progress=progress
        )
        dataset = Dataset(
            name=name,
            kind="cityscapes",
            root=journal.folder,
            classes=cityscapes.CLASSES.names,
            palette=cityscapes.CLASSES.palette,
            train=tuple(records[task.id] for task in tasks if task.part == "train"),
            val=tuple(records[task.id] for task in tasks if task.part == "val"),
            licence=cityscapes.CLASSES.licence,
            window=cityscapes.WINDOW,
        )
        write_dataset(dataset, {"source": described, "notes": _notes(len(dataset.train), len(dataset.val))})
    return load_dataset(root, name)


def _notes(train: int, val: int) -> list[str]:
    if (train, val) == (cityscapes.TRAIN, cityscapes.VAL):
        return []
    return [f"Cityscapes has {cityscapes.TRAIN:,} train and {cityscapes.VAL:,} val images, here {train:,} and {val:,}"]
