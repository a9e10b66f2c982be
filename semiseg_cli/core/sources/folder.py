"""Somebody's own folders: which image has which mask, what joins the pool, and what is held out for validation.

An image's id is its path below its folder, without the suffix; where two folders use an id for different pictures,
the later folder's ids begin with `unlabeled/` or `val/`. Ids are in Unicode's composed form, whatever the disk holds.
Which mask belongs to which image is told by `pairing.py`.
"""

from __future__ import annotations

import filecmp
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from semiseg_cli.core.data.listing import left_out, look_below
from semiseg_cli.core.data.names import draw_key
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.copies import Copy, Refusal, Source
from semiseg_cli.core.sources.pairing import differing_in_case, pair, parted, several_kinds

SINGLE = ("labeled", "masks", "unlabeled", "val", "val_masks")
HELD_OUT = 5  # one labeled image of five is held out where no validation images are given


@dataclass(frozen=True)
class Folders:
    """Where somebody's images and masks lie. Folders may lie within each other; they are searched with subfolders.

    more: further folders of unlabeled images, in the order in which they were added.
    """

    labeled: Path
    masks: Path
    unlabeled: Path | None = None
    val: Path | None = None
    val_masks: Path | None = None
    more: tuple[Path, ...] = ()

    @property
    def all(self) -> tuple[Path, ...]:
        """Those that there are."""
        single = (self.labeled, self.masks, self.unlabeled, self.val, self.val_masks)
        return (*(path for path in single if path), *self.more)

    def described(self) -> dict[str, Any]:
        """As `source` of a dataset keeps them."""
        single = {name: str(path.absolute()) if path else "" for name, path in vars(self).items() if name != "more"}
        return single | ({"more": [str(path.absolute()) for path in self.more]} if self.more else {})

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Folders:
        """The same back from `source`."""
        single = {name: Path(source[name]) if source[name] else None for name in SINGLE}
        return cls(**single, more=tuple(map(Path, source.get("more", ()))))  # type: ignore[arg-type]

    def files(self, folder: Path | None) -> dict[str, Path]:
        """Image files by id below one of these folders, without those in the others. DataError where ids collide."""
        found: dict[str, Path] = {}
        for path in self.paths(folder) if folder else ():
            id = normalize("NFC", path.relative_to(folder or path).with_suffix("").as_posix())
            if id in found:
                raise DataError(f"{found[id]} and {path} have the same name but for the suffix", fix="rename one")
            found[id] = path
        return dict(sorted(found.items()))

    def paths(self, folder: Path) -> list[Path]:
        """Image files below one of these folders, without those in the others, in the order of their names."""
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder", fix=_from_json(folder))
        others = {path.resolve() for path in self.all} - {folder.resolve()}
        return sorted(look_below(folder, others).files)

    def images_and_masks(self, images: Path, masks: Path) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and masks by id, of two folders or of one that holds both. DataError where ids collide."""
        if images.resolve() == masks.resolve():
            return parted(self.paths(images), images)
        return self.files(images), self.files(masks)

    def left_out(self) -> list[str]:
        """A line for each of these folders in which something else than image files lies."""
        folders = {path.resolve(): path for path in self.all}
        looks = {path: look_below(path, folders.keys() - {place}) for place, path in folders.items()}
        return [line for path, look in looks.items() if (line := left_out(path, look.others.items()))]

    def listing(self) -> str:
        """A digest of names, sizes and times of all files: it tells whether something changed and opens none."""
        state = hashlib.sha256()
        for folder in self.all:
            for path in sorted(self.paths(folder), key=lambda path: path.with_suffix("").as_posix()):
                stat, id = path.stat(), path.relative_to(folder).with_suffix("").as_posix()
                line = f"{id}\n{path.suffix}\n{stat.st_size}\n{stat.st_mtime_ns}\n"
                state.update(line.encode("utf-8", "surrogateescape"))
        return state.hexdigest()


@dataclass(frozen=True)
class Sources:
    """What is there, before any image is opened."""

    labeled: tuple[Source, ...]
    pool: tuple[Source, ...]
    val: tuple[Source, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Arrangement:
    """What becomes of the copies: `dropped` pool images are left out."""

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    dropped: tuple[Record, ...]
    notes: tuple[str, ...]


def gather(folders: Folders) -> Sources:
    """Match images and masks by name. Raises DataError where no labeled image is left, or a mask could be of two."""
    if (folders.val is None) != (folders.val_masks is None):
        raise UsageError("--val and --val-masks go together")
    labeled, bare, notes = _with_masks(folders, folders.labeled, folders.masks)
    if bare:
        notes.append(f"{_images(bare)} in {folders.labeled} without a mask: part of the unlabeled pool: {listed(bare)}")
    taken = {source.id: source.image for source in labeled} | bare
    pool, changed = dict[str, Path](), list[str]()
    for number, folder in enumerate(filter(None, (folders.unlabeled, *folders.more)), 1):
        role = f"unlabeled{number if number > 1 else ''}"
        found, more = _distinct(taken | pool, folders.files(folder), role)
        pool |= found
        changed += more
    val: list[Source] = []
    if folders.val and folders.val_masks:
        val, left, more = _with_masks(folders, folders.val, folders.val_masks)
        notes += more
        if left:
            notes.append(f"{_images(left)} in {folders.val} without a mask: left out: {listed(left)}")
        renamed, more = _distinct(taken | pool, {source.id: source.image for source in val}, "val", drop=False)
        val = [Source(id, source.image, source.mask) for id, source in zip(renamed, val, strict=True)]
        changed += more
    pool |= bare
    free = tuple(Source(id, path, None) for id, path in sorted(pool.items()))
    return Sources(tuple(labeled), free, tuple(val), (*notes, *changed, *folders.left_out()))


def _with_masks(folders: Folders, images: Path, masks: Path) -> tuple[list[Source], dict[str, Path], list[str]]:
    """Images with their masks, images without one, and what is worth a note."""
    image_files, mask_files = folders.images_and_masks(images, masks)
    found = pair(image_files, mask_files)
    pairs = found.masks
    orphans = sorted(mask_files.keys() - pairs.values())
    bare = {id: path for id, path in image_files.items() if id not in pairs}
    hint = differing_in_case(bare, orphans)
    if not pairs:
        what = f"no labeled image: no mask in {masks} is named like an image in {images}"
        examples = f"images: {listed(image_files) or 'none'}; masks: {listed(mask_files) or 'none'}{hint}"
        fix = "give each mask the name of its image, a/x.jpg and a/x.png, or one prefix or suffix for all"
        if several := several_kinds(image_files, mask_files):
            fix = f"one mask for an image: put the others of {listed(several)} into another folder"
        raise DataError(what, why=examples, fix=_from_json(masks) or fix)
    notes = [f"{found.said}, all {len(pairs)}"] if found.said else []
    if orphans:
        notes.append(f"{len(orphans)} masks in {masks} without an image: not used: {listed(orphans)}{hint}")
    sources = [Source(id, image_files[id], mask_files[mask]) for id, mask in pairs.items()]
    return sources, bare, notes


def _from_json(masks: Path) -> str:
    """What to do where annotations lie in place of masks; empty where there are none."""
    there = masks if masks.suffix.lower() == ".json" else next(masks.rglob("[!.]*.json"), None)
    if not there:
        return ""
    return (
        f"{there} holds annotations, and no pixels: export them as PNG masks (CVAT: 'Segmentation mask', LabelMe: "
        "labelme_export_json, COCO: pycocotools' annToMask)"
    )


def _distinct(
    taken: Mapping[str, Path], found: dict[str, Path], role: str, drop: bool = True
) -> tuple[dict[str, Path], list[str]]:
    """`found` without files that are there already under the same id; its ids get the role in front if some clash."""
    again = {id for id, path in found.items() if id in taken and drop and filecmp.cmp(path, taken[id], shallow=False)}
    left = {id: path for id, path in found.items() if id not in again}
    if left.keys() & taken.keys():
        note = f"{role} images share names with others: their ids begin with {role}/"
        return {f"{role}/{id}": path for id, path in left.items()}, [note]
    return left, []


def arrange(
    labeled: Sequence[Copy], pool: Sequence[Copy], val: Sequence[Copy], held: Collection[str] | None = None
) -> Arrangement:
    """Hold out a fifth of the labeled images if there are no others to validate on; keep equal pictures together.

    A picture that is labeled for training and for validation is a DataError; one of the pool that is labeled or held
    out as well is left out of the pool. held: ids of the validation images as they were and are to stay.
    """
    notes, dropped = list[str](), list[Record]()
    if held is not None:
        labeled, val, dropped, notes = _held_as_before(labeled, val, held)
    elif val:
        both = {copy.digest: copy.record.id for copy in labeled}
        pairs = [f"{both[copy.digest]} = {copy.record.id}" for copy in val if copy.digest in both]
        if pairs:
            what = f"--labeled and --val share pictures: {len(pairs)}"
            fix = "remove them from one of the two: they flatter the result"
            raise DataError(what, why="\n".join(pairs[:100]), fix=fix)
    else:
        labeled, val = _hold_out(labeled)
        ids = [copy.record.id for copy in val]
        total = len(labeled) + len(val)
        notes.append(f"{len(ids)} of {total} labeled images held out for validation (no --val): {listed(ids)}")
    known = {copy.digest for copy in (*labeled, *val)}
    if twice := [copy.record for copy in pool if copy.digest in known]:
        dropped += twice
        ids = [record.id for record in twice]
        notes.append(f"{_images(ids)} of the pool left out: equal to a labeled or validation image: {listed(ids)}")
    kept = [copy.record for copy in pool if copy.digest not in known]
    train = (*(copy.record for copy in labeled), *kept)
    return Arrangement(train, tuple(copy.record for copy in val), tuple(dropped), tuple(notes))


def _held_as_before(
    labeled: Sequence[Copy], val: Sequence[Copy], held: Collection[str]
) -> tuple[list[Copy], list[Copy], list[Record], list[str]]:
    """Labeled and validation images, the latter being those of before that are still there; what is left out; notes."""
    stays = [copy for copy in (*labeled, *val) if copy.record.id in held]
    if not stays:
        what = "none of the validation images is there any more"
        raise DataError(what, fix="bring them back, or prepare a new dataset: --name NAME")
    pictures, notes = {copy.digest for copy in stays}, list[str]()
    same = [copy.record for copy in labeled if copy.digest in pictures and copy.record.id not in held]
    late = [copy.record for copy in val if copy.record.id not in held]
    if same:
        ids = [record.id for record in same]
        notes.append(f"{_images(ids)} with a mask left out: equal to a validation image: {listed(ids)}")
    if late:
        ids = [record.id for record in late]
        notes.append(f"{_images(ids)} of --val left out, since the validation set stays: {listed(ids)}")
    out = {record.id for record in (*same, *late)} | set(held)
    return [copy for copy in labeled if copy.record.id not in out], stays, [*same, *late], notes


def _hold_out(copies: Sequence[Copy]) -> tuple[list[Copy], list[Copy]]:
    """What stays, and what is held out: drawn picture by picture, in an order that only depends on the ids."""
    count = max(1, round(len(copies) / HELD_OUT))
    times = Counter(copy.digest for copy in copies)
    pictures: set[bytes] = set()
    for copy in sorted(copies, key=lambda copy: draw_key(0, copy.record.id)):
        if sum(times[picture] for picture in pictures) < count:
            pictures.add(copy.digest)
    stays = [copy for copy in copies if copy.digest not in pictures]
    if not stays:
        raise DataError(
            "one labeled image cannot serve for training and for validation",
            fix="label another one, or give --val and --val-masks",
        )
    return stays, [copy for copy in copies if copy.digest in pictures]


def usable(pool: Sequence[Copy | Refusal], unlabeled: Path | None) -> tuple[list[Copy], list[str]]:
    """The pool without images that cannot be read, as some cannot in every large one, and a note that names them.

    Raises DataError where none can be.
    """
    bad = [each for each in pool if isinstance(each, Refusal)]
    if bad and len(bad) == len(pool):
        what = f"none of the {len(pool)} unlabeled images can be read"
        raise DataError(what, why="\n".join(each.text for each in bad[:20]), fix=f"look at {unlabeled}")
    note = f"{_images(bad)} without a label cannot be read and {'is' if len(bad) == 1 else 'are'} left out: "
    kept = [each for each in pool if isinstance(each, Copy)]
    return kept, [note + "; ".join(each.text for each in bad[:20]) + "; ..." * (len(bad) > 20)] if bad else []


def coverage(train: Iterable[Record], val: Iterable[Record], classes: Sequence[str]) -> list[str]:
    """Notes on classes that have no pixel. Raises DataError where all labeled pixels are of one class."""
    notes = []
    for part, records in (("labeled", train), ("validation", val)):
        counts = [sum(column) for column in zip(*(record.pixels for record in records if record.mask), strict=True)]
        absent = [name for name, count in zip(classes, counts, strict=True) if not count]
        if part == "labeled" and len(absent) >= len(classes) - 1:
            there = "nothing" if len(absent) == len(classes) else next(name for name in classes if name not in absent)
            raise DataError(
                f"the labeled pixels are {there if there == 'nothing' else repr(there)} and ignored ones only",
                why=f"no pixel of {listed(absent)}{_of(absent, classes)}",
                fix=f"--map 255=1 if 255 stands for '{classes[1]}'; else look at the values in the masks",
            )
        if absent:
            notes.append(f"no pixel in the {part} images: {listed(absent)}{_of(absent, classes)}")
    return notes


def _of(absent: Collection[str], classes: Collection[str]) -> str:
    return f" ({len(absent)} of {len(classes)} classes)" if len(absent) > 5 else ""


def listed(ids: Collection[str], most: int = 5) -> str:
    """The first few of some ids."""
    return ", ".join(list(ids)[:most]) + (", ..." if len(ids) > most else "")


def _images(ids: Collection[Any]) -> str:
    return f"{len(ids)} image{'s' * (len(ids) != 1)}"
