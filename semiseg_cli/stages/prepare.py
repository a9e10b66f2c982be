"""Prepare a dataset from a seed or from somebody's own folders.

An interrupted run leaves nothing, or a hidden folder (`.<name>.partial-*`) if it was killed. A second run with the
same arguments changes nothing and is immediate.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import completing
from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.depths import Levels
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, manifest, write_dataset
from semiseg_cli.core.data.kinds import lacks
from semiseg_cli.core.data.spec import IGNORE, Dataset, Record
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.sources import shapes, stacks
from semiseg_cli.core.sources.arranging import arrange, coverage, usable
from semiseg_cli.core.sources.classes import Classes, read_classes
from semiseg_cli.core.sources.codes import code_name
from semiseg_cli.core.sources.colours import distinct
from semiseg_cli.core.sources.copies import Copy, Refusal, Source, copy, refuse, unopened
from semiseg_cli.core.sources.earlier import Earlier, mark, write_marks
from semiseg_cli.core.sources.folder import Folders, gather
from semiseg_cli.core.sources.masks import Look, Masks, agree, look_at, takes_lossy
from semiseg_cli.core.sources.ranges import range_of
from semiseg_cli.core.sources.told import REFUSE, Told, tabulate
from semiseg_cli.stages.building import building, ready
from semiseg_cli.stages.drawn import FOLDER, Drawn, drawn, is_annotated
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.shard import shard_anew


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
    """The synthetic dataset of `core.sources.shapes`: labeled + unlabeled images to train on, masks of the former only.

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
    classes: Path | None = None,
    told: Told | None = None,
    long_side: int = 1024,
    levels: Levels | None = None,
    in_place: bool = False,
    shards: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """A dataset from folders of images and masks, matched by `core.sources.folder`, copied by `core.sources.copies`.

    masks, val_masks: also annotations, see `stages.drawn`. classes: a file that `core.sources.classes.read_classes`
    understands; None: what the annotations name, or the `labelmap.txt` beside masks. told: what is said of the masks;
    the rest they tell themselves. long_side: larger images are reduced to it; 0: none is. levels: what becomes 0 and
    255 of 16 bits a channel; None: what they use. in_place: photos that need no change stay where they are, and are
    reduced when they are read. shards: those without a mask go into shards, and are read so too. Without `val`, a fifth
    of the labeled images is held out. Raises UsageError where what is told contradicts itself, DataError that lists
    every file concerned, and where `<root>/<name>` holds something else.
    """
    folders = Folders(labeled, masks, unlabeled, val, val_masks)
    if shards and in_place:
        why = "photos without a mask go into shards from where they are, and others into the dataset"
        raise UsageError("--shards leaves nothing for --in-place", why=why, fix="leave out one of them")
    given = _pascal(Given(folders, classes, told or Told(), long_side, levels, in_place or shards, shards=shards))
    if there := ready(root, name, "folder", given.source()):
        return there
    if shards:

        def fill(folder: Path) -> None:
            build_folder(folder, name, given, progress)

        return shard_anew(root, name, given.source(), fill, progress)
    with building(root, name) as folder:
        build_folder(folder, name, given, progress)
    return load_dataset(root, name)


@dataclass(frozen=True)
class Given:
    """What somebody gives for a dataset of their own: see `prepare_folder`."""

    folders: Folders
    classes: Path | None  # None: as annotations name them
    told: Told
    long_side: int
    levels: Levels | None = None
    in_place: bool = False
    shards: bool = False  # photos in place will be put into shards
    named: bool = False  # the classes of a dataset that was prepared before, as annotations named them

    def source(self) -> dict[str, Any]:
        """As `dataset.toml` keeps it. Raises UsageError where what is told contradicts itself."""
        told = self.told
        ignored = tabulate(read_classes(self.classes), told).ignored if self.classes else IGNORE
        source = self.folders.described() | {
            "map": {code_name(code): target for code, target in told.map.items()},
            "ignore": -1 if ignored is None else ignored,
            "long_side": self.long_side,
            "classes": hashlib.sha256(self.classes.read_bytes()).hexdigest() if self.classes and not self.named else "",
            "files": self.folders.listing(),
            **({"levels": self.levels} if self.levels else {}),
            **({"shards" if self.shards else "in_place": True} if self.in_place else {}),
        }
        rest = {"first": told.first, "unknown": told.unknown, "reading": told.reading, "orientation": told.orientation}
        return source | {key: value for key, value in rest.items() if value not in (None, "", REFUSE)}


def build_folder(folder: Path, name: str, given: Given, progress: Progress, before: Dataset | None = None) -> None:
    """Write the whole dataset into `folder`.

    before: the dataset whose validation set and range of values stay, and whose copies are taken where they fit.
    """
    annotated = is_annotated(given.folders)
    if annotated:
        masks = drawn(folder, given.folders, given.classes, given.told, progress, again=before is not None)
    else:
        masks = Drawn(given.folders, read_classes(_needed(given.classes, given.folders.masks)), given.told, ())
    meaning, sources = masks.classes, gather(masks.folders)
    tasks = [*sources.labeled, *sources.pool, *sources.val]
    told = masks.told
    if before and told.first is None and not meaning.values:
        told = replace(told, first=0)  # as was decided when there was nothing to update
    how = _reading_masks(name, [*sources.labeled, *sources.val], meaning, told, progress)
    asked = before.levels if before else given.levels
    photos = [task.image for task in tasks]
    levels, ranged = range_of(photos, asked, on_all_cores)
    ranged += stacks.told(photos, on_all_cores)
    earlier, made = Earlier(before), dict[str, tuple[str, bytes]]()
    lengths = {task.image.stat().st_size for task in tasks if task.mask} if given.in_place else set[int]()
    with progress(f"preparing {name}", len(tasks)) as advance:

        def one(task: Source) -> Copy | Refusal:
            if given.in_place and not task.mask and (found := unopened(task, lengths)):
                advance()
                return found
            by = mark(task, how, given.long_side, levels, given.in_place)
            again = earlier.again(task, by, folder)
            done = again or copy(task, folder, how, given.long_side, levels, given.in_place)
            if isinstance(done, Copy):
                made[task.id] = by, done.digest
            advance()
            return done

        done = on_all_cores(one, tasks)
    first, last = len(sources.labeled), len(tasks) - len(sources.val)
    refuse([each for each in (*done[:first], *done[last:]) if isinstance(each, Refusal)], meaning)
    labeled, val = ([each for each in part if isinstance(each, Copy)] for part in (done[:first], done[last:]))
    pool, unread = usable(done[first:last], given.folders.pools)
    result = arrange(labeled, pool, val, {record.id for record in before.val} if before else None)
    for record in result.dropped:
        for file in (record.image, record.mask):
            if file and file.is_relative_to(folder):  # not a photo that stays in its place
                file.unlink()
    dataset = Dataset(
        name=name,
        kind="folder",
        root=folder,
        classes=meaning.names,
        palette=meaning.palette or distinct(len(meaning.names)),
        train=result.train,
        val=result.val,
        licence=meaning.licence,
        levels=levels,
    )
    assert how.meaning  # masks that cannot be read were refused
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    own = {f"not read in {path}:" for path in (given.folders.masks, given.folders.val_masks) if annotated}
    about = [line for line in sources.notes if not any(line.startswith(words) for words in own)]
    found = [*masks.notes, *how.notes[annotated:], *about, *ranged, *unread, *result.notes]
    found += coverage(result.train, result.val, meaning.names, annotated=annotated)
    kept = {record.id for record in (*result.train, *result.val)}
    left = sorted(task.id for task in tasks if task.id not in kept)
    if given.classes:
        classes = shutil.copyfile(given.classes, folder / f"classes{given.classes.suffix}").name
    else:
        classes = "classes.json"
        write_text(folder / classes, json.dumps({"names": meaning.names}, ensure_ascii=False) + "\n")
    write_marks(folder, {id: made[id] for id in sorted(kept & made.keys())})
    extra = {"classes_file": classes, **({"left_out": left} if left else {})}
    write_dataset(dataset, {"source": given.source(), "notes": found, **extra})


def _pascal(given: Given) -> Given:
    """With the folder of masks within an export in Pascal's form, and the `labelmap.txt` that comes with masks."""
    folders = given.folders
    if (masks := folders.masks / "SegmentationClass").is_dir() and (folders.masks / "labelmap.txt").is_file():
        folders = replace(folders, masks=masks)
    if given.classes is None and not is_annotated(folders):
        places = (folders.masks / "labelmap.txt", folders.masks.parent / "labelmap.txt")
        found = _needed(next(filter(Path.is_file, places), None), given.folders.masks)
        return replace(given, folders=folders, classes=found)
    return replace(given, folders=folders)


def _needed(classes: Path | None, masks: Path) -> Path:
    if classes is None:
        what, why = "--classes is missing", f"annotations name their classes, and {masks} holds none"
        fix = f"--classes FILE, a class name per line; more: {command('prepare', 'folder', '--help')}"
        raise UsageError(what, why=why, fix=fix)
    return classes


def _reading_masks(name: str, labeled: list[Source], classes: Classes, told: Told, progress: Progress) -> Masks:
    """How all these masks are read."""
    lossy = takes_lossy(classes, told)
    with progress(f"looking at the masks of {name}", len(labeled)) as advance:

        def one(task: Source) -> Look | None:
            assert task.mask
            found = look_at(task.image, task.mask, lossy)
            advance()
            return found

        looks = on_all_cores(one, labeled)
    readable = [each for each in looks if each]
    return agree(readable, classes, told) if len(readable) == len(looks) else Masks(None, {}, (), lossy)


def notes(dataset: Dataset) -> list[str]:
    """What `prepare` found worth saying about a dataset, such as images that were left out, and what would add more."""
    table = manifest(dataset.root)
    found: list[str] = table.get("notes", [])
    if lacks(dataset.kind, table.get("source", {})):
        return [*found, completing(dataset.name, dataset.kind, dataset.root.parent)]
    return found
