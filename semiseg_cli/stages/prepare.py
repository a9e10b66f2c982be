"""Prepare a dataset: everything is built in a hidden folder beside the target, which gets its name in one step.

An interrupted run leaves nothing but that hidden folder (`.<name>.partial-*`), if it was killed at that. A second run
with the same arguments changes nothing and is immediate.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from semiseg_cli.core.data import shapes
from semiseg_cli.core.data.classes import code_name, default_palette, read_classes, translation
from semiseg_cli.core.data.copies import Copy, Refusal, Source, copy, refuse
from semiseg_cli.core.data.folder import Folders, arrange, coverage, gather
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, manifest, to_toml, write_dataset
from semiseg_cli.core.data.spec import IGNORE, Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.stages.progress import Progress, silent

Task = TypeVar("Task")
Result = TypeVar("Result")


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
    if ready := _ready(root, name, "shapes", source):
        return ready
    tasks = [("train", index) for index in range(labeled + unlabeled)] + [("val", index) for index in range(val)]
    with _building(root, name) as folder, progress(f"drawing {name}", len(tasks)) as advance:

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

        records = _on_all_cores(one, tasks)
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
    """A dataset from folders of images and masks, matched by `core.data.folder`, copied by `core.data.copies`.

    classes: a file that `core.data.classes.read_classes` understands. map: mask value (or `imaging.COLOUR | 0xRRGGBB`)
    to class. ignore: mask value of pixels that count nowhere; None: what the classes file says, else 255.
    long_side: larger images are reduced to it; 0: none is. Without `val`, a fifth of the labeled images is held out.
    Raises DataError that lists every file concerned, and where `<root>/<name>` holds something else.
    """
    meaning = read_classes(classes)
    ignored = next(value for value in (ignore, meaning.ignore, IGNORE) if value is not None)
    translate = translation(meaning, ignored, map or {})
    folders = Folders(labeled, masks, unlabeled, val, val_masks)
    source = {key: str(path.absolute()) if path else "" for key, path in vars(folders).items()} | {
        "map": {code_name(code): target for code, target in (map or {}).items()},
        "ignore": ignored,
        "long_side": long_side,
        "classes": hashlib.sha256(classes.read_bytes()).hexdigest(),
        "files": folders.listing(),
    }
    if ready := _ready(root, name, "folder", source):
        return ready
    sources = gather(folders)
    tasks = [*sources.labeled, *sources.pool, *sources.val]
    with _building(root, name) as folder, progress(f"preparing {name}", len(tasks)) as advance:

        def one(task: Source) -> Copy | Refusal:
            done = copy(task, folder, translate, long_side)
            advance()
            return done

        done = _on_all_cores(one, tasks)
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
    """What `prepare` found worth saying about a dataset, such as images that were left out."""
    found: list[str] = manifest(dataset.root).get("notes", [])
    return found


def _on_all_cores(work: Callable[[Task], Result], tasks: list[Task]) -> tuple[Result, ...]:
    """`work` on every task, in order, in threads: decoding, resizing and encoding all release Python's lock."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # one image per core, rather than every core on every image
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return tuple(pool.map(work, tasks))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or an interrupt: no further task is begun
        cv2.setNumThreads(threads)


def _ready(root: Path, name: str, kind: str, source: Mapping[str, Any]) -> Dataset | None:
    """The dataset if it was prepared from exactly this; None if there is nothing; else a DataError."""
    folder = root / name
    if not folder.exists():
        return None
    fix = f"choose another --name, or remove {folder}"
    if not (folder / "dataset.toml").is_file():
        raise DataError(f"{folder} exists and is not a prepared dataset", fix=fix)
    table = manifest(folder)
    before = {"kind": table["kind"], **table.get("source", {})}
    now = {"kind": kind, **tomllib.loads(to_toml(source))}
    differ = [key for key in now | before if before.get(key) != now.get(key)]
    if differ:
        why = "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} here" for key in differ)
        raise DataError(f"{folder} was prepared differently", why=why, fix=fix)
    dataset = load_dataset(root, name)
    files = [file for record in (*dataset.train, *dataset.val) for file in (record.image, record.mask) if file]
    missing = [file for file in files if not file.is_file()]
    if missing:
        what = f"{folder} lacks {len(missing)} of its files, the first is {missing[0]}"
        raise DataError(what, fix=f"remove {folder} and run again")
    return dataset


@contextmanager
def _building(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder that becomes `<root>/<name>` if all goes well, and vanishes otherwise."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=root))
    try:
        folder.chmod(0o755)  # mkdtemp makes it private
        yield folder
        os.rename(folder, root / name)
    except OSError as error:
        raise DataError(f"{root / name} cannot be written", why=str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
