"""Prepare Cityscapes: from the unpacked tree or from its two archives, which need a registration to be had.

Images stay where they are, or become JPEGs once: decoding a PNG of 2048x1024 pixels takes about three times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources import archives, cityscapes
from semiseg_cli.stages.building import complete, interruptible, made_of, place, ready, resumable, unpack
from semiseg_cli.stages.convert import convert_all
from semiseg_cli.stages.progress import Progress, silent

FORMATS = ("none", "jpg")


def prepare_cityscapes(
    root: Path,
    *,
    name: str = "cityscapes",
    source: Path | None = None,
    archive: Sequence[Path] = (),
    convert: str | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Cityscapes' train and val with 19 classes, evaluated in windows of 801 pixels.

    source: the folder that holds leftImg8bit and gtFine. archive: their zip files. convert: none or jpg; None: as it
    is prepared, else none. Without source and archive: what is prepared or lies unpacked below `root`.
    Raises DataError with the way to the data where it is absent, and for data that is incomplete or damaged;
    Interrupted on Ctrl-C.
    """
    if convert not in (None, *FORMATS):
        raise UsageError(f"--convert {convert} is not possible", fix=f"--convert {' or '.join(FORMATS)}")
    with interruptible(f"preparing {name}"):
        before = made_of(root / name, "cityscapes")
        if before and not (source or archive or convert):
            return complete(root, name)
        images, masks = _locate(root, before, source, archive, progress)
        form = convert or before.get("convert", "none")
        described = {"images": place(images, root), "labels": place(masks, root), "convert": form}
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


def _locate(
    root: Path, before: Mapping[str, str], source: Path | None, archive: Sequence[Path], progress: Progress
) -> tuple[Path, Path]:
    """The folders leftImg8bit and gtFine."""
    if before and not (source or archive):
        return root / before["images"], root / before["labels"]
    places = [unpack(file, root, cityscapes.is_wanted, progress) for file in archive]
    if source:
        places.append(source)
    elif not archive:
        places += _usual_places(root)
    found = cityscapes.find(places)
    if not found:
        where = ", ".join(map(str, [source] if source else archive)) or f"below {root}"
        raise DataError("Cityscapes is not at hand", why=f"no leftImg8bit and gtFine {where}", fix=cityscapes.HOW)
    return found


def _usual_places(root: Path) -> Iterator[Path]:
    """Where the tree is looked for that nobody named."""
    yield root
    yield from (folder for folder in sorted(root.glob("unpacked/*")) if archives.is_complete(folder))


def _notes(train: int, val: int) -> list[str]:
    if (train, val) == (cityscapes.TRAIN, cityscapes.VAL):
        return []
    return [f"Cityscapes has {cityscapes.TRAIN:,} train and {cityscapes.VAL:,} val images, here {train:,} and {val:,}"]
