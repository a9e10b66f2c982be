"""Somebody's own folders: which image has which mask, what joins the pool, and what is held out for validation.

An image's id is its path below its folder, without the suffix; where two folders use an id for different pictures,
the later folder's ids begin with `unlabeled/` or `val/`. Ids are in Unicode's composed form, whatever the disk holds.
Which mask belongs to which image is told by `pairing.py`.
"""

from __future__ import annotations

import filecmp
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from semiseg_cli.core.data import described
from semiseg_cli.core.data.listing import leads_to, left_out, look_below
from semiseg_cli.core.data.names import images
from semiseg_cli.core.errors import DataError, UsageError, counted, few, few_lines, verb
from semiseg_cli.core.reading import shaped
from semiseg_cli.core.sources import mistaken
from semiseg_cli.core.sources.copies import Source
from semiseg_cli.core.sources.pairing import differing_in_case, pair, parted, several_kinds
from semiseg_cli.core.sources.polygons.files import annotation_files, labels_of


class Described(described.Source):
    """What `source` of a dataset says of its folders, with `more`."""

    labeled: str
    masks: str
    unlabeled: str
    val: str
    val_masks: str


SINGLE = ("labeled", "masks", "unlabeled", "val", "val_masks")


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

    @property
    def pools(self) -> tuple[Path, ...]:
        """Those of unlabeled images."""
        return tuple(filter(None, (self.unlabeled, *self.more)))

    def described(self) -> dict[str, Any]:
        """As `source` of a dataset keeps them."""
        single = {name: str(path.absolute()) if path else "" for name, path in vars(self).items() if name != "more"}
        return single | ({"more": [str(path.absolute()) for path in self.more]} if self.more else {})

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Folders:
        """The same back from `source`. DataError where that is damaged."""
        try:
            shaped(source, Described, "source")
        except ValueError as error:
            what = "a dataset does not tell where it was prepared from"
            raise DataError(what, why=f"dataset.toml: {error}") from error
        single = {name: Path(source[name]) if source[name] else None for name in SINGLE}
        return cls(**single, more=tuple(map(Path, source.get("more", ()))))  # type: ignore[arg-type]

    def files(self, folder: Path | None) -> dict[str, Path]:
        """Image files by id below one of these folders, without those in the others. DataError where ids collide."""
        found: dict[str, Path] = {}
        twice = list[tuple[Path, Path]]()
        for path in self.paths(folder) if folder else ():
            id = normalize("NFC", path.relative_to(folder or path).with_suffix("").as_posix())
            if id in found:
                twice.append((found[id], path))
            found[id] = path
        if twice:
            raise _twins(folder, twice)
        return {id: found[id] for id in sorted(found)}

    def paths(self, folder: Path) -> list[Path]:
        """Image files below one of these folders, without those in the others, in the order of their names."""
        if not folder.is_dir():
            what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
            raise DataError(what, fix=mistaken.no_folder(folder))
        others = {leads_to(path) for path in self.all} - {leads_to(folder)}
        found = sorted(look_below(folder, others).files)
        if odd := [path for path in found if re.search(r"[\t\r\n]", str(path.relative_to(folder)))]:
            raise DataError(f"{str(odd[0])!r} has a tab or a line break in its name", fix="rename the file")
        if odd := [path for path in found if re.search("[\udc80-\udcff]", str(path))]:  # bytes that are no text
            many = f"{counted(len(odd), 'file')} {verb(len(odd), 'has a name', 'have names')} in no UTF-8"
            fix = f"rename, if from Windows: convmv -r -f cp1252 -t utf-8 --notest {shlex.quote(str(folder))}"
            raise DataError(many, why=f"such as {str(odd[0])!a}", fix=fix)
        return found

    def images_and_masks(self, images: Path, masks: Path) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and masks by id, of two folders or of one that holds both. DataError where ids collide."""
        if leads_to(images) == leads_to(masks):
            return parted(self.paths(images), images)
        return self.files(images), self.files(masks)

    def left_out(self) -> list[str]:
        """A line for each of these folders in which something else than image files lies."""
        folders = {leads_to(path): path for path in self.all}
        looks = {path: look_below(path, folders.keys() - {place}) for place, path in folders.items()}
        return [line for path, look in looks.items() if (line := left_out(path, look.others.items()))]

    def listing(self) -> str:
        """A digest of names, sizes and times of all files: it tells whether something changed and opens none."""
        state = hashlib.sha256()
        annotated = dict.fromkeys((self.masks, self.val_masks))
        for folder in self.all:
            drawn = annotation_files(folder, self.labeled) if folder in annotated else ()
            below = folder if folder.is_dir() or not drawn else folder.parent
            files = [*(self.paths(folder) if below == folder else ()), *drawn]
            for path in sorted(files, key=lambda path: path.with_suffix("").as_posix()):
                stat, id = path.stat(), path.relative_to(below).with_suffix("").as_posix()
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


def gather(folders: Folders) -> Sources:
    """Match images and masks by name. Raises DataError where no labeled image is left, or a mask could be of two."""
    if (folders.val is None) != (folders.val_masks is None):
        raise UsageError("--val and --val-masks go together")
    labeled, bare, notes = _with_masks(folders, folders.labeled, folders.masks)
    if bare:
        notes.append(f"{images(bare)} in {folders.labeled} without a mask: part of the unlabeled pool: {few(bare)}")
    taken = {source.id: source.image for source in labeled} | bare
    pool, changed = _pool(folders, taken)
    val: list[Source] = []
    if folders.val and folders.val_masks:
        val, left, more = _with_masks(folders, folders.val, folders.val_masks)
        notes += more
        if left:
            notes.append(f"{images(left)} in {folders.val} without a mask: left out: {few(left)}")
        renamed, more = _distinct(taken | pool, {source.id: source.image for source in val}, "val", drop=False)
        val = [Source(id, source.image, source.mask) for id, source in zip(renamed, val, strict=True)]
        changed += more
    pool |= bare
    free = tuple(Source(id, pool[id], None) for id in sorted(pool))
    return Sources(tuple(labeled), free, tuple(val), (*notes, *changed, *folders.left_out()))


def to_train(folders: Folders) -> dict[str, Path]:
    """The images to train on by their ids, with a mask or without, of which no mask is looked for."""
    annotated = annotation_files(folders.masks, folders.labeled)
    found = folders.files(folders.labeled) if annotated else folders.images_and_masks(folders.labeled, folders.masks)[0]
    return found | _pool(folders, found)[0]


def _pool(folders: Folders, taken: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The images of the folders without masks, and what is worth a note. taken: those that are there before."""
    pool, notes = dict[str, Path](), list[str]()
    for number, folder in enumerate(folders.pools, 1):
        role = f"unlabeled{number if number > 1 else ''}"
        found, more = _distinct(taken | pool, folders.files(folder), role)
        pool |= found
        notes += more
    return pool, notes


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
        there = [few(ids) or _unread(place) for ids, place in ((image_files, images), (mask_files, masks))]
        examples = f"images: {there[0]}; masks: {there[1]}{hint}"
        fix = "give each mask the name of its image, a/x.jpg and a/x.png, or one prefix or suffix for all"
        if several := several_kinds(image_files, mask_files):
            fix = f"one mask for an image: put the others of {few(several)} into another folder"
        known = mistaken.cityscapes(mask_files, masks) or mistaken.labelme_folders(mask_files)
        raise DataError(what, why=examples, fix=known or mistaken.of_json(masks) or fix)
    if bare and (drawn := labels_of(bare, (masks, images))):
        raise _labels_left(masks, drawn)
    notes = [f"{found.said}, all {len(pairs)}"] if found.said else []
    if orphans:
        many = f"{counted(len(orphans), 'mask')} in {masks} {verb(len(orphans), 'has', 'have')} no image"
        notes.append(f"{many}: not used: {few(orphans)}{hint}")
    sources = [Source(id, image_files[id], mask_files[mask]) for id, mask in pairs.items()]
    return sources, bare, notes


def _unread(folder: Path) -> str:
    """That a folder holds no image file, and what it holds instead."""
    line = left_out(folder, look_below(folder).others.items())
    return f"none ({line})" if line else "none"


def _labels_left(masks: Path, drawn: Mapping[Path, Sequence[str]]) -> DataError:
    """The error of photos without a mask that have annotations: they would count as unlabeled."""
    ids = sorted({id for each in drawn.values() for id in each})
    place = masks.with_name(f"{masks.name}-annotations")
    kept = " ".join(shlex.quote(str(path)) for path in list(drawn)[:20])
    rest = f"; then the same of {len(drawn) - 20:,} more" * (len(drawn) > 20)
    return DataError(
        f"{counted(len(ids), 'photo')} without a mask in {masks} would be unlabeled, and annotations label "
        f"{verb(len(ids), 'it', 'them')}: {few(ids)}",
        why=f"image files and annotations are not mixed; {few(drawn, 3)}",
        fix="make PNG masks of these annotations, beside the others: `prepare folder` of them alone, with the same "
        "--classes and --name other, leaves them in other/masks of the data root; or, if the photos are to be "
        f"unlabeled, move them away: mkdir -p {shlex.quote(str(place))} && mv {kept} {shlex.quote(str(place))}{rest}",
    )


def _twins(folder: Path | None, twice: Sequence[tuple[Path, Path]]) -> DataError:
    """The error of files of one name, which give one id."""
    other = twice[0][1]
    rename = shlex.join(["mv", str(other), str(other.with_stem(f"{other.stem}-{other.suffix[1:]}"))])
    many = f"{counted(len(twice), 'file')} in {folder} {verb(len(twice), 'is', 'are')}"
    return DataError(
        f"{many} named as another but for the suffix",
        why=few_lines([f"{one} and {other}" for one, other in twice]),
        fix=f"keep one of each, or rename: {rename}",
    )


def _distinct(
    taken: Mapping[str, Path], found: dict[str, Path], role: str, drop: bool = True
) -> tuple[dict[str, Path], list[str]]:
    """`found` without files that are there already under the same id; its ids get the role in front if some clash."""
    again = {id for id, path in found.items() if id in taken and drop and filecmp.cmp(path, taken[id], shallow=False)}
    left = {id: path for id, path in found.items() if id not in again}
    if found and not left:
        return {}, [f"{role} images: all {len(found)} are there already, under the same names, and none is new"]
    if left.keys() & taken.keys():
        note = f"{role} images share names with others: their ids begin with {role}/"
        return {f"{role}/{id}": path for id, path in left.items()}, [note]
    return left, []
