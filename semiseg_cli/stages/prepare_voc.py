"""Prepare PASCAL VOC 2012: from an unpacked devkit, from archives, or by download; with the labels of SBD or without.

Photos stay where they are. Archives are unpacked below the data root, into `unpacked/`. A run that was interrupted is
gone on with by the same command; a later run with SBD adds to what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.sources import archives, voc
from semiseg_cli.core.sources.journal import begun
from semiseg_cli.core.sources.sbd import find_images, find_labels
from semiseg_cli.stages.building import alone, complete, interruptible, lost, made_of, place, ready, resumable
from semiseg_cli.stages.convert import convert_all
from semiseg_cli.stages.locate import NO_SBD, Call, locate_voc
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.repoint import repoint


def prepare_voc(
    root: Path,
    *,
    name: str = "voc",
    source: Path | None = None,
    archive: Sequence[Path] = (),
    sbd: Path | None = None,
    fetch: bool = False,
    around: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Dataset:
    """VOC 2012 as a dataset; `lists/fine.txt` in its folder names the images of VOC's own train list.

    source: the folder VOC2012, or one around it; a prepared dataset takes its photos from there from now on. archive:
    files that hold it, SBD, or both. sbd: SBD's folder, one of PNGs (SegmentationClassAug), or an archive of either;
    `none` is none. fetch: download what is not at hand. around: the folder in which, below and beside which data are
    looked for that nobody named. Without any of these: what is prepared or lies unpacked below `root`.
    Raises DataError for data that is absent, incomplete or damaged, and where `<root>/<name>` holds something else;
    Interrupted on Ctrl-C.
    """
    with interruptible(f"preparing {name}"):
        before = made_of(root / name, "voc")
        known = before or begun(root / name)
        call = Call(
            root, name, voc.is_wanted, source, archive, sbd, fetch, around, note, progress,
            known if "devkit" in known else {},
        )  # fmt: skip
        bare = not (source or archive or sbd or fetch)
        if bare and before and (before["sbd"] or not around) and not lost(root, name):
            return load_dataset(root, name)
        with alone(root, name):
            devkit, labels = locate_voc(call)
            if before and (place(devkit, root) != before["devkit"] or _sbd_moved(call, labels)):
                before = _moved(call, devkit, labels)
            return _prepare(call, devkit, labels, before)


def _sbd_moved(call: Call, labels: Path | None) -> bool:
    """Whether SBD is here, and no longer where a dataset that has it took it from."""
    before = call.before["sbd"]
    return before not in ("", "none") and labels is not None and labels.is_dir() and not (call.root / before).is_dir()


def _moved(call: Call, devkit: Path, labels: Path | None) -> dict[str, Any]:
    """Take the photos of a prepared dataset from another devkit; what it is made of then."""
    photos = {file.stem: file for file in (devkit / "JPEGImages").glob("[!.]*.jpg")}
    photos = (find_images(labels) if labels else {}) | photos
    now = {**call.before, "devkit": place(devkit, call.root)}
    if labels and labels.is_dir() and call.before["sbd"] not in ("", "none"):
        now["sbd"] = place(labels, call.root)
    repoint(call.root, call.name, devkit, photos, now, call.note)
    return now


def _prepare(call: Call, devkit: Path, labels: Path | None, before: Mapping[str, str]) -> Dataset:
    root, name = call.root, call.name
    without, had = "none" if call.sbd == NO_SBD else "", before.get("sbd", "")
    described = {"devkit": place(devkit, root), "sbd": place(labels, root) or had or without}
    if had not in ("", "none") and not (call.sbd or call.archive):
        described["sbd"] = had  # another copy that was found is not taken
    grows = bool(labels) and had in ("", "none") and before == {**described, "sbd": had}
    if not grows and (there := ready(root, name, "voc", described)):  # what was prepared without SBD is added to
        return there
    extra, photos = (find_labels(labels), find_images(labels)) if labels else ({}, {})
    try:
        tasks, fine = voc.gather(devkit, extra, photos)
    except DataError:
        archives.reopen(devkit, root)
        raise
    known = complete(root, name) if grows else None
    with resumable(root, name, described) as journal:
        old = {record.id: record for record in (*known.train, *known.val)} if known else {}
        records = convert_all(tasks, journal, old, voc.CLASSES, fix=_repair(labels), progress=call.progress)
        (journal.folder / "lists").mkdir(exist_ok=True)
        write_text(journal.folder / "lists" / "fine.txt", "".join(f"{id}\n" for id in fine))
        parts: dict[str, list[Record]] = {"train": [], "val": []}
        for task in tasks:
            parts[task.part].append(records[task.id])
        dataset = Dataset(
            name=name,
            kind="voc",
            root=journal.folder,
            classes=voc.CLASSES.names,
            palette=voc.CLASSES.palette,
            train=tuple(parts["train"]),
            val=tuple(parts["val"]),
            licence=voc.CLASSES.licence,
        )
        found = _notes(len(fine), len(parts["train"]), len(parts["val"]), bool(labels))
        write_dataset(dataset, {"source": described, "notes": found})
    return load_dataset(root, name)


def _repair(labels: Path | None) -> str:
    return f"{voc.UNPACK}; likewise SBD, which was read from {labels}" if labels else voc.UNPACK


def _notes(fine: int, train: int, val: int, with_sbd: bool) -> list[str]:
    """What is worth saying: SBD absent, and counts that are not the published ones."""
    notes = []
    if not with_sbd:
        notes.append(f"without SBD: {train:,} training images instead of {voc.AUGMENTED:,}")
    if (fine, val) != (voc.FINE, voc.VAL):
        notes.append(f"VOC 2012 has {voc.FINE:,} train and {voc.VAL:,} val images, these lists {fine:,} and {val:,}")
    elif with_sbd and train != voc.AUGMENTED:
        notes.append(f"VOC's train and SBD make {voc.AUGMENTED:,} images, here {train:,}")
    return notes
