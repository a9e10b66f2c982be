"""A dataset of somebody's own grows: what is new in its folders joins it, what is gone leaves it, the rest stays.

The validation set stays, so that runs of before and after compare; so do splits and pairs, and those that no longer fit
are named.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import updating
from semiseg_cli.core.data.depths import Levels
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.data.listing import leads_to
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.swapped import aside, put_back
from semiseg_cli.core.errors import DataError, SemisegError, UsageError, counted, few
from semiseg_cli.core.partitions.splits import from_lists
from semiseg_cli.core.sources.classes import read_classes
from semiseg_cli.core.sources.codes import parse_codes
from semiseg_cli.core.sources.earlier import check_made
from semiseg_cli.core.sources.folder import Folders, gather
from semiseg_cli.core.sources.told import REFUSE, Told, tabulate
from semiseg_cli.stages.building import building
from semiseg_cli.stages.drawn import is_annotated
from semiseg_cli.stages.prepare import Given, build_folder
from semiseg_cli.stages.progress import Progress, silent

# what is made anew, and the classes file
MADE = ("images", "masks", "sources.tsv", "index.tsv", "index.safetensors", "dataset.toml")


def update_folder(
    root: Path,
    *,
    name: str,
    unlabeled: Path | None = None,
    classes: Path | None = None,
    moved: Mapping[str, Path | None] | None = None,
    told: Told | None = None,
    long_side: int = 1024,
    levels: Levels | None = None,
    in_place: bool = False,
    progress: Progress = silent,
) -> tuple[Dataset, list[str]]:
    """The dataset with what its folders hold now, and what changed, in lines.

    unlabeled: another folder of unlabeled images. classes: the file of the classes, for datasets that hold no copy of
    it. moved: folders by their names in `Folders` that lie elsewhere now. told, long_side, levels, in_place: may repeat
    what was said before, which stays. Raises UsageError where they do not, and for a dataset of another kind; DataError
    as `prepare_folder` does. Then nothing has changed.
    """
    before, table = load_dataset(root, name), manifest(root / name)
    if before.kind != "folder":
        fix = command("prepare", "folder", "--help")
        raise UsageError(f"{name} was not prepared from folders of images, but from {before.kind}", fix=fix)
    if before.block:
        raise UsageError(f"{name} is in shards, which are made at once", fix=updating(root / name))
    check_made(table, root / name)
    folders = Folders.of(table["source"] | {key: str(path) for key, path in (moved or {}).items() if path})
    if unlabeled and leads_to(unlabeled) not in {leads_to(path) for path in folders.all}:
        more = (*folders.more, unlabeled)
        folders = replace(folders, more=more) if folders.unlabeled else replace(folders, unlabeled=unlabeled)
    given = _given_before(before, table, folders, classes)
    _refuse_others(name, given, told or Told(), long_side, levels, in_place)
    if _same(given.source(), table["source"]):
        return before, [f"nothing changed in the folders of {name}"]
    there, old = root / name, aside(root / name)
    try:
        with building(root, name) as folder:
            shutil.rmtree(old, ignore_errors=True)
            build_folder(folder, name, given, progress, before)
            changed = _changed(before, load_dataset(root, folder.name))
            for entry in there.iterdir():
                if entry.name not in (*MADE, table.get("classes_file", "")):
                    _keep(entry, folder / entry.name)
            os.rename(there, old)
    except BaseException:
        put_back(there)
        raise
    shutil.rmtree(old, ignore_errors=True)
    after = load_dataset(root, name)
    return after, [*_changes(before, after, changed), *_splits(after)]


def _keep(entry: Path, new: Path) -> None:
    """The same files in another folder, under another name for what they hold: whoever is killed here loses nothing."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.copytree(entry, new, symlinks=True, copy_function=_link)
    else:
        _link(entry, new)


def _link(file: str | Path, new: str | Path) -> None:
    try:
        os.link(file, new, follow_symlinks=False)
    except OSError:  # a disk that knows no second names
        shutil.copy2(file, new, follow_symlinks=False)


def on_disk(dataset: Dataset) -> list[str]:
    """What lies in the folders of a dataset of somebody's own and is not in it yet, or the other way round, in lines.

    Empty for other datasets, and where the folders are not there any more.
    """
    table = manifest(dataset.root)
    source = table.get("source", {})
    if dataset.kind != "folder" or "files" not in source:
        return []
    try:
        folders = Folders.of(source)
        if not all(folder.is_dir() for folder in folders.all) or folders.listing() == source["files"]:
            return []
        if is_annotated(folders):
            return ["annotations or photos that came, changed or went"]
        found = gather(folders)
    except SemisegError as error:
        return [f"the folders cannot be read as before: {error}"]
    now = {each.id for each in (*found.labeled, *found.val)}
    had = {record.id for record in (*dataset.train, *dataset.val)}
    masked = {record.id for record in (*dataset.labeled, *dataset.val)}
    every = now | {each.id for each in found.pool}
    lines = _lines(
        {
            "new image|with a mask": now - had - set(table.get("left_out", ())),
            "new image|without": every - now - had - set(table.get("left_out", ())),
            "new mask|": (now & had) - masked,
            "mask|gone": (every - now) & masked,
            "image|gone": had - every,
        }
    )
    return lines or ["files of other sizes or times, of the same names"]


def _given_before(before: Dataset, table: Mapping[str, Any], folders: Folders, classes: Path | None) -> Given:
    """What the dataset was prepared from, with these folders."""
    source, kept = table["source"], table.get("classes_file")
    file = classes or (before.root / kept if kept else None)
    if file is None:
        what = f"{before.name} was prepared by an earlier version and holds no copy of its classes file"
        raise UsageError(what, fix="name it once more: --classes FILE")
    meaning = read_classes(file)
    if meaning.names != before.classes:
        what = f"{file} names other classes than {before.name} has"
        raise DataError(what, why=f"{few(meaning.names)} against {few(before.classes)}", fix="a new --name")
    codes = {code: target for word, target in source["map"].items() for code in parse_codes(word)}
    told = Told(
        map=codes,
        first=source.get("first"),
        unknown=source.get("unknown", REFUSE),
        reading=source.get("reading", ""),
        orientation=source.get("orientation", ""),
    )
    usual = tabulate(meaning, told).ignored
    if source["ignore"] not in (-1, usual):
        told = replace(told, ignore=source["ignore"])
    levels = source.get("levels")
    named = source["classes"] == ""
    bounds, in_place = (levels[0], levels[1]) if levels else None, bool(source.get("in_place"))
    return Given(folders, file, told, source["long_side"], bounds, in_place, named=named)


def _refuse_others(name: str, given: Given, told: Told, long_side: int, levels: Levels | None, in_place: bool) -> None:
    """Raise UsageError where options say something else than when the dataset was prepared."""
    differs = {
        "how masks are read": told not in (Told(), given.told, replace(given.told, ignore=told.ignore)),
        "--long-side": long_side not in (1024, given.long_side),
        "--levels": levels not in (None, given.levels),
        "--in-place": in_place and not given.in_place,
    }
    if changed := [what for what, other in differs.items() if other]:
        what = f"{name} was prepared with another {' and '.join(changed)}, which an update keeps"
        raise UsageError(what, fix=f"leave them out, or prepare a new dataset: --name {name}-2")


def _same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether two sources say the same, tuples and lists being one."""

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in now.items()} == {key: plain(value) for key, value in before.items()}


def _changed(before: Dataset, after: Dataset) -> set[str]:
    """Ids of images that both have, and whose picture or mask is another now."""
    had = {record.id: record for record in (*before.train, *before.val)}
    both = [(had[record.id], record) for record in (*after.train, *after.val) if record.id in had]
    return {now.id for was, now in both if _is_other(was, now)}


def _is_other(was: Record, now: Record) -> bool:
    if was.bytes and now.bytes and was.bytes != now.bytes:  # a photo that stays in its place
        return True
    files = [(was.image, now.image), *([(was.mask, now.mask)] if was.mask and now.mask else [])]
    return any(
        not (one.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))) for one, other in files
    )


def _changes(before: Dataset, after: Dataset, changed: set[str]) -> list[str]:
    had = {record.id: record.mask is not None for record in before.train}
    has = {record.id: record.mask is not None for record in after.train}
    held, holds = ({record.id for record in dataset.val} for dataset in (before, after))
    lines = _lines(
        {
            "new image|with a mask": {id for id, masked in has.items() if masked and id not in had},
            "new image|without": {id for id, masked in has.items() if not masked and id not in had},
            "image|with a mask now": {id for id in has if id in had and has[id] and not had[id]},
            "image|with none any more": {id for id in has if id in had and had[id] and not has[id]},
            "image|gone": had.keys() - has.keys(),
            "image|whose photo or mask is another": changed & has.keys(),
            "validation image|gone: numbers do not compare with those of before": held - holds,
            "validation image|whose photo or mask is another: numbers do not compare with those of before": changed
            & holds,
        }
    )
    stays = f"the validation set is the same: {counted(len(holds), 'image')}"
    return [*(lines or ["no image came, went or changed"]), *[stays] * (held == holds and not changed & holds)]


def _lines(groups: Mapping[str, Any]) -> list[str]:
    """A line for each group that is not empty. groups: ids by `noun|rest` of what is said of them."""
    parted = [(what.partition("|"), ids) for what, ids in groups.items() if ids]
    said = [(f"{counted(len(ids), noun)} {rest}".rstrip(), ids) for (noun, _, rest), ids in parted]
    return [f"{what}: {few(sorted(ids))}" for what, ids in said]


def _splits(dataset: Dataset) -> list[str]:
    """Splits that no longer fit, and those whose list of unlabeled images says nothing of new ones."""
    unfit, listing = list[str](), list[str]()
    for file in sorted((dataset.root / "splits").rglob("labeled.txt")):
        words = file.parent.relative_to(dataset.root / "splits").as_posix()
        try:
            with warnings.catch_warnings(action="ignore"):
                part = from_lists(dataset, file.parent)
        except DataError as error:
            unfit.append(f"split {words} no longer fits: {error.why or error.what}")
            continue
        if len(part.labeled) + len(part.unlabeled) < len(dataset.train):
            listing.append(words)
    kept = f"{counted(len(listing), 'split')} as before, without the new images: {few(listing)}"
    return [*unfit, *[kept] * bool(listing)]
