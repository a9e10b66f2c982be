"""Prepare PASCAL VOC 2012: from an unpacked devkit, from archives, or by download; with the labels of SBD or without.

Photos stay where they are. Archives are unpacked below the data root, into `unpacked/`. A run that was interrupted is
gone on with by the same command; a later run with SBD adds to what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.sources import archives, voc
from semiseg_cli.core.sources.benchmark import names
from semiseg_cli.core.sources.download import Published, download
from semiseg_cli.core.sources.sbd import ARCHIVE as SBD
from semiseg_cli.core.sources.sbd import find_images, find_labels
from semiseg_cli.stages.building import complete, interruptible, made_of, place, ready, resumable, unpack
from semiseg_cli.stages.convert import convert_all
from semiseg_cli.stages.progress import Progress, silent

Note = Callable[[str], None]

WAYS = f"""one of
    semiseg prepare voc --source VOCdevkit/VOC2012      what is unpacked already
    semiseg prepare voc --archive {voc.ARCHIVE.name}
    semiseg prepare voc --download      {voc.ARCHIVE.size / 1e9:.1f} GB, and SBD's labels, {SBD.size / 1e9:.1f} GB"""


def prepare_voc(
    root: Path,
    *,
    name: str = "voc",
    source: Path | None = None,
    archive: Sequence[Path] = (),
    sbd: Path | None = None,
    fetch: bool = False,
    note: Note = lambda line: None,
    progress: Progress = silent,
) -> Dataset:
    """VOC 2012 as a dataset; `lists/fine.txt` in its folder names the images of VOC's own train list.

    source: the folder VOC2012, or one around it. archive: files that hold it, SBD, or both. sbd: SBD's folder, one
    of PNGs (SegmentationClassAug), or an archive of either. fetch: download VOC and SBD. Without any of these: what is
    prepared or lies unpacked below `root`.
    Raises DataError for data that is absent, incomplete or damaged, and where `<root>/<name>` holds something else;
    Interrupted on Ctrl-C.
    """
    with interruptible(f"preparing {name}"):
        before = made_of(root / name, "voc")
        if before and not (source or archive or sbd or fetch):
            return complete(root, name)
        devkit, labels = _locate(root, before, source, archive, sbd, fetch, note, progress)
        return _prepare(root, name, devkit, labels, before, progress)


def _prepare(
    root: Path, name: str, devkit: Path, labels: Path | None, before: Mapping[str, str], progress: Progress
) -> Dataset:
    described = {"devkit": place(devkit, root), "sbd": place(labels, root) or before.get("sbd", "")}
    grows = bool(labels) and before == {**described, "sbd": ""}  # what was prepared without SBD is added to
    if not grows and (there := ready(root, name, "voc", described)):
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
        records = convert_all(tasks, journal, old, voc.CLASSES, fix=_repair(labels), progress=progress)
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
        found = _notes(root, len(fine), len(parts["train"]), len(parts["val"]), bool(labels))
        write_dataset(dataset, {"source": described, "notes": found})
    return load_dataset(root, name)


def _locate(
    root: Path,
    before: Mapping[str, str],
    source: Path | None,
    archive: Sequence[Path],
    labels: Path | None,
    fetch: bool,
    note: Note,
    progress: Progress,
) -> tuple[Path, Path | None]:
    """The folder VOC2012, and the one of SBD's labels if there is one."""
    folders = [unpack(file, root, voc.is_wanted, progress) for file in archive]
    if fetch:
        folders.append(_fetch(voc.ARCHIVE, root, note, progress))
        if not labels and all(map(voc.find_devkit, folders)):
            try:
                folders.append(_fetch(SBD, root, note, progress))
            except DataError as error:
                note(f"{error.what}, so that VOC's own labels are prepared alone\n{error.why}")
    if labels and labels.is_file():
        labels = unpack(labels, root, voc.is_wanted, progress)
    elif labels is None:
        labels = next((folder for folder in folders if not voc.find_devkit(folder)), None)
    places = [source] if source else [*folders, *_usual_places(root, before)]
    devkit = next((found for place in places if (found := voc.find_devkit(place))), None)
    if not devkit and source:
        why = "no VOC2012 with JPEGImages, SegmentationClass and ImageSets/Segmentation at or below it"
        raise DataError(f"{source} is not VOC 2012", why=why, fix=WAYS)
    if not devkit:
        raise DataError("VOC 2012 is not at hand", why=f"no VOCdevkit/VOC2012 below {root}", fix=WAYS)
    if not labels and names(devkit / "SegmentationClassAug"):
        labels = devkit / "SegmentationClassAug"
    return devkit, labels


def _usual_places(root: Path, before: Mapping[str, str]) -> Iterator[Path]:
    """Where a devkit is looked for that nobody named."""
    if before:
        yield root / before["devkit"]
    yield root
    yield from sorted(root.glob("*/VOCdevkit"))
    yield from (folder for folder in sorted(root.glob("unpacked/*")) if archives.is_complete(folder))


def _fetch(item: Published, root: Path, note: Note, progress: Progress) -> Path:
    """A published archive, downloaded and unpacked; at once where that has been done."""
    folder = archives.unpacked(Path(item.name), root)
    if archives.is_complete(folder):
        return folder
    try:
        with progress(f"downloading {item.name} (MB)", round(item.size / 1e6)) as advance:
            file = download(item, root / "downloads", note=note, advance=advance)
    except DataError as error:
        if not error.fix:
            option = "--archive" if item is voc.ARCHIVE else "--sbd"
            error.fix = f"get it in another way, then semiseg prepare voc {option} {item.name}"
        raise
    note(f"{file} can be removed once this is done")
    return unpack(file, root, voc.is_wanted, progress)


def _repair(labels: Path | None) -> str:
    return f"{voc.UNPACK}; likewise SBD, which was read from {labels}" if labels else voc.UNPACK


def _notes(root: Path, fine: int, train: int, val: int, with_sbd: bool) -> list[str]:
    """What is worth saying: SBD absent, and counts that are not the published ones."""
    notes = []
    if not with_sbd:
        adding = f"semiseg prepare voc --root {root} --sbd {SBD.name}"
        notes.append(f"without SBD: {train} training images instead of {voc.AUGMENTED:,}; `{adding}` adds its labels")
    if (fine, val) != (voc.FINE, voc.VAL):
        notes.append(f"VOC 2012 has {voc.FINE:,} train and {voc.VAL:,} val images, these lists {fine:,} and {val:,}")
    elif with_sbd and train != voc.AUGMENTED:
        notes.append(f"VOC's train and SBD make {voc.AUGMENTED:,} images, here {train:,}")
    return notes
