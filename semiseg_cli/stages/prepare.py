"""Prepare a dataset from a seed or from somebody's own folders.

An interrupted run leaves nothing, or a hidden folder (`.<name>.partial-*`) if it was killed. A second run with the
same arguments changes nothing and is immediate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from semiseg_cli.core.data.again import completing
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, manifest, write_dataset
from semiseg_cli.core.data.kinds import lacks
from semiseg_cli.core.data.spec import IGNORE, Dataset, Record
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.sources import shapes
from semiseg_cli.core.sources.classes import code_name, default_palette, label_map, read_classes
from semiseg_cli.core.sources.copies import Copy, Refusal, Source, copy, refuse
from semiseg_cli.core.sources.folder import Folders, arrange, coverage, gather
from semiseg_cli.stages.building import building, on_all_cores, ready
from semiseg_cli.stages.progress import Progress, silent


def prepare_shapes(
    root: Path,
    *,
    name: str = "shapes",
    seed: int = 0,
    labeled: int = 10,
    unlabeled: int = 300,
    val: int = 80,
    size: int = 128,
    progress: Progress = silent,
) -> Dataset:
    """The synthetic dataset of `core.data.shapes`: labeled + unlabeled images to train on, masks of the former only.

    Raises DataError where `<root>/<name>` holds something else.
    """
    if labeled < 1 or val < 1 or unlabeled < 0 or size < 32 or seed < 0:
        raise UsageError("prepare shapes needs --labeled and --val of at least 1, --size of at least 32, --seed from 0")
    source = {"seed": seed, "labeled": labeled, "unlabeled": unlabeled, "val": val, "size": size}
    source["drawing"] = shapes.VERSION
    if there := ready(root, name, "shapes", source):
        return there
    tasks = [("train", index) for index in range(labeled + unlabeled)] + [("val", index) for index in range(val)]
    with building(root, name) as folder, progress(f"drawing {name}", len(tasks)) as advance:

        def one(task: tuple[str, int]) -> Record:
            part, index = task
            image, mask = shapes.draw(seed, part, index, size)
            id = f"{part}_{index:04d}"
            image_file = write_image(folder / "images" / f"{id}.png", image)
            advance()
            if part == "train" and index >= labeled:
                return Record(id, image_file, None, size, size)
            mask_file = write_image(folder / "masks" / f"{id}.png", mask)
            pixels = tuple(np.bincount(mask.ravel(), minlength=len(shapes.CLASSES)).tolist())
            return Record(id, image_file, mask_file, size, size, pixels)

        records = on_all_cores(one, tasks)
        train, held = records[: labeled + unlabeled], records[labeled + unlabeled :]
        dataset = Dataset(name, "shapes", folder, shapes.CLASSES, shapes.PALETTE, train, held, licence=shapes.LICENCE)
        write_dataset(dataset, {"source": source, "notes": []})
    return load_dataset(root, name)


def prepare_folder(
    root: Path,
    *,
    name: str,
    labeled: Path,
    masks: Path,
    unlabeled: Path | None = None,
    val: Path | None = None,
    val_masks: Path | None = None,
    classes: Path,
    map: Mapping[int, int] | None = None,
    ignore: int | None = None,
    long_side: int = 1024,
    progress: Progress = silent,
) -> Dataset:
    """A dataset from folders of images and masks, matched by `core.sources.folder`, copied by `core.sources.copies`.

    classes: a file that `core.sources.classes.read_classes` understands. map: mask value (or
    `imaging.COLOUR | 0xRRGGBB`) to class, or to 255 for pixels that count nowhere. ignore: another mask value of such
    pixels; None: what the classes file says, else 255. long_side: larger images are reduced to it; 0: none is. Without
    `val`, a fifth of the labeled images is held out.
    Raises UsageError where `map` and `ignore` contradict each other, DataError that lists every file concerned, and
    where `<root>/<name>` holds something else.
    """
    meaning = read_classes(classes)
    if ignore is not None and (target := (map or {}).get(ignore, IGNORE)) != IGNORE:
        what = f"--ignore {code_name(ignore)} and --map {code_name(ignore)}={target} contradict each other"
        raise UsageError(what, fix=f"leave one of them out; pixels that count nowhere are --map VALUE={IGNORE}")
    ignored = next(value for value in (ignore, meaning.ignore, IGNORE) if value is not None)
    translate = label_map(meaning, ignored, map or {})
    folders = Folders(labeled, masks, unlabeled, val, val_masks)
    source = {key: str(path.absolute()) if path else "" for key, path in vars(folders).items()} | {
        "map": {code_name(code): target for code, target in (map or {}).items()},
        "ignore": ignored,
        "long_side": long_side,
        "classes": hashlib.sha256(classes.read_bytes()).hexdigest(),
        "files": folders.listing(),
    }
    if there := ready(root, name, "folder", source):
        return there
    sources = gather(folders)
    tasks = [*sources.labeled, *sources.pool, *sources.val]
    with building(root, name) as folder, progress(f"preparing {name}", len(tasks)) as advance:

        def one(task: Source) -> Copy | Refusal:
            done = copy(task, folder, translate, long_side)
            advance()
            return done

        done = on_all_cores(one, tasks)
        refuse([each for each in done if isinstance(each, Refusal)], meaning)
        copies = [each for each in done if isinstance(each, Copy)]
        first, last = len(sources.labeled), len(tasks) - len(sources.val)
        result = arrange(copies[:first], copies[first:last], copies[last:])
        for record in result.dropped:
            record.image.unlink()
        dataset = Dataset(
            name=name,
            kind="folder",
            root=folder,
            classes=meaning.names,
            palette=meaning.palette or default_palette(len(meaning.names)),
            train=result.train,
            val=result.val,
            licence=meaning.licence,
        )
        found = [*sources.notes, *result.notes, *coverage(result.train, result.val, meaning.names)]
        write_dataset(dataset, {"source": source, "notes": found})
    return load_dataset(root, name)


def notes(dataset: Dataset) -> list[str]:
    """What `prepare` found worth saying about a dataset, such as images that were left out, and what would add more."""
    table = manifest(dataset.root)
    found: list[str] = table.get("notes", [])
    if lacks(dataset.kind, table.get("source", {})):
        return [*found, completing(dataset.name, dataset.kind, dataset.root.parent)]
    return found
