"""A dataset beside another one, whose photos without a mask lie in shards: few large files in place of millions.

The photos go into shards as they are, in an order drawn for the whole pool, so that a shard is a random sample of it.
Photos with a mask and validation stay files. It is built in a hidden folder (`.<name>.sharding`), in which every shard
that is done has the lines of its photos, so that the same command goes on where one was interrupted or killed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semiseg_cli.core.commands import command
from semiseg_cli.core.data import store
from semiseg_cli.core.data.again import SHARD_MB, naming_bad_files
from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.decode import read
from semiseg_cli.core.data.index import is_prepared, load_dataset, manifest, to_toml, write_dataset
from semiseg_cli.core.data.lines import HEADER, record_line
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.order import HEADS, permuted
from semiseg_cli.core.data.shards import FOLDER, LISTED, Listed, name_of, room, write, wrong
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.table import INDEX, IndexTable
from semiseg_cli.core.errors import BadFile, DataError, UsageError
from semiseg_cli.core.files import sweep, whole, write_text
from semiseg_cli.core.reading import TEXT, read_json, read_text, shaped
from semiseg_cli.stages.building import alone, building, interruptible, made_of
from semiseg_cli.stages.progress import Progress, silent

LINES, KEY, ORDER = "lines", "key.json", "shards"  # while it is built; what the order of the photos is drawn with
SAMPLE = 1000  # photos whose files tell how many go into a shard


class Asked(NamedTuple):
    """size: megabytes of a shard. url: the store that takes the shards; "": they stay in the dataset. cache: bytes of
    them that are kept here then."""

    size: float = SHARD_MB
    url: str = ""
    cache: int = int(store.CACHE_GB * 1e9)


def shard(
    root: Path, data: str, *, name: str = "", asked: Asked | None = None, progress: Progress = silent
) -> Dataset:
    """The dataset `name`, else `<data>-shards`, made of `data`, which stays as it is.

    Raises UsageError for options that cannot be, DataError where there is nothing to put into shards, and where
    `<root>/<name>` holds something else.
    """
    asked, name, source = asked or Asked(), name or f"{data}-shards", load_dataset(root, data)
    if source.block:
        raise UsageError(f"{data} is in shards", fix="name the dataset that it was made of")
    if name == data:
        raise UsageError(f"{name} cannot be made of itself", fix=f"another name: --name {data}-shards")
    _check(asked)
    if not source.pool:
        why = "shards are for photos without a mask, of which there may be millions"
        raise DataError(f"every training image of {data} has a mask", why=why, fix=f"train on {data} as it is")
    made = {"made_of": data, "index": source.training.mark, "size": float(asked.size)}
    made |= {"url": asked.url} if asked.url else {}
    if _is_ready(root, name, made):
        if asked.url:
            store.keep(root / name / FOLDER, {"url": asked.url, "cache": asked.cache})  # perhaps of another size now
        return load_dataset(root, name)
    with alone(root, name), interruptible(f"putting {data} into shards"), naming_bad_files(source):
        build(source, root, name, asked, made, progress)
    return load_dataset(root, name)


def shard_anew(
    root: Path, name: str, source: Mapping[str, Any], fill: Callable[[Path], None], progress: Progress
) -> Dataset:
    """A new dataset in shards: `fill` builds one of files in a folder (`.<name>.files`), which is gone in the end.

    source: what that is made of; one of the same that is there from before is taken.
    """
    files = root / f".{name}.files"
    with alone(root, name), interruptible(f"preparing {name}"):
        if made_of(files, "folder") != tomllib.loads(to_toml(source)):
            shutil.rmtree(files, ignore_errors=True)
            with building(root, files.name) as folder:
                fill(folder)
        found = load_dataset(root, files.name)
        if found.pool:
            build(found, root, name, Asked(), {"index": found.training.mark, "size": SHARD_MB}, progress)
        shutil.rmtree(files)
    if not found.pool:
        raise DataError("nothing can be put into shards: every photo has a mask", fix="leave out --shards")
    return load_dataset(root, name)


def build(
    source: Dataset, root: Path, name: str, asked: Asked, made: dict[str, Any], progress: Progress
) -> None:
    """Build the dataset in its hidden folder, which then gets its name. made: its options, for `dataset.toml`."""
    folder = root / f".{name}.sharding"
    work = Work(source, folder, asked)
    made |= {"photos": work.photos, "count": work.count}
    if not (folder / KEY).is_file() or read_json(folder / KEY) != made:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / LINES).mkdir(parents=True)
        (folder / FOLDER).mkdir()
        write_text(folder / KEY, json.dumps(made))
    with progress(f"packing {name}", len(source.pool)) as advance:
        for number in range(work.count):
            advance(work.pack(number))
    work.finish(name, made)
    (folder / KEY).unlink()
    os.rename(folder, root / name)


def _check(asked: Asked) -> None:
    if not 0 < asked.size <= 1e6:
        raise UsageError(f"--shard-mb {asked.size:g} is no size of a shard", fix=f"--shard-mb {SHARD_MB:g}")
    if asked.url:
        store.require(asked.url)
        if asked.cache < (need := 2 * HEADS * asked.size * 1e6):
            what = f"a cache of {asked.cache / 1e9:g} GB is too small for shards of {asked.size:g} MB"
            why = f"a run reads from {HEADS} of them at once, and the next come while they are read"
            raise UsageError(what, why=why, fix=f"--cache-gb {need / 1e9:g}, or a smaller --shard-mb")


def _is_ready(root: Path, name: str, made: dict[str, Any]) -> bool:
    """Whether it is there, made just so. DataError where something else is."""
    folder = root / name
    if not folder.exists():
        return False
    there = manifest(folder).get("shards", {}) if is_prepared(folder) else {}
    differ = [key for key in made | {"url": ""} if there.get(key) != made.get(key)]
    if not differ:
        return True
    fix = f"choose another name: {command('shard', made['made_of'], '--name', f'{name}-2', root=root)}"
    if not there:
        raise DataError(f"{folder} exists and holds no shards", fix=fix)
    same = there.get("made_of") == made["made_of"] and "index" in differ
    why = f"{made['made_of']} changed since" if same else f"it differs in {', '.join(differ)}"
    raise DataError(f"{folder} was made differently", why=why, fix=fix)


@dataclass(frozen=True)
class Work:
    """The making of shards in a folder."""

    source: Dataset
    folder: Path
    asked: Asked

    @cached_property
    def photos(self) -> int:
        """In every shard but the last, which has no more."""
        pool = self.source.pool
        places = np.linspace(0, len(pool) - 1, min(SAMPLE, len(pool))).round().astype(int).tolist()
        try:
            mean = sum(room(pool[place].image.stat().st_size) for place in places) / len(places)
        except OSError as error:
            raise BadFile(f"cannot read {error.filename}", why=error.strerror or str(error)) from None
        shards = max(1, round(len(pool) * mean / (self.asked.size * 1e6)))
        return -(-len(pool) // min(shards, len(pool)))

    @cached_property
    def count(self) -> int:
        return -(-len(self.source.pool) // self.photos)

    def shard(self, number: int) -> Path:
        return self.folder / FOLDER / name_of(number)

    def lines(self, number: int) -> Path:
        """What is done: a line of JSON for `shards.json`, and those of the index."""
        return self.folder / LINES / f"{number:05d}.tsv"

    def pack(self, number: int) -> int:
        """Make a shard, if that is not done; how many photos it has."""
        pool, shard = self.source.pool, self.shard(number)
        places = range(number * self.photos, min((number + 1) * self.photos, len(pool)))
        if self.lines(number).is_file() and (self.asked.url or shard.is_file()):
            return len(places)
        sweep(shard.parent, [shard.name])
        records = [pool[permuted(place, len(pool), ORDER)] for place in places]
        data = on_all_cores(lambda record: read(record.image, record.bytes), records)
        names = [f"{record.id}{record.image.suffix.lower()}" for record in records]
        begins, listed = write(shard, zip(names, data, strict=True))
        if self.asked.url:
            store.send(shard, self.asked.url)
            shard.unlink()
        lines = [json.dumps(listed)]
        for record, name, begin, photo in zip(records, names, begins, data, strict=True):
            kept = Record(record.id, shard / str(begin) / name, None, record.height, record.width, bytes=len(photo))
            lines.append(record_line("train", kept, self.folder))
        write_text(self.lines(number), "\n".join([*lines, ""]), settled=True)
        return len(places)

    def finish(self, name: str, made: dict[str, Any]) -> None:
        """Write the index and the rest of a dataset."""
        shards = self.folder / FOLDER
        with whole(self.folder / INDEX) as new, new.open("w", encoding="utf-8", newline="\n") as index:
            index.write(f"{HEADER}\n")
            for line in self._index():
                index.write(f"{line}\n")
        listed = {name_of(number): self._listed(number) for number in range(self.count)}
        write_text(shards / LISTED, json.dumps(listed, indent=0) + "\n")
        if self.asked.url:
            store.keep(shards, {"url": self.asked.url, "cache": self.asked.cache})
        elif bad := [shard for shard in map(self.shard, range(self.count)) if wrong(shard)]:
            fix = f"{shlex.join(['rm', '-r', str(self.folder)])}, then the same command"
            raise DataError(f"{bad[0]} is damaged", why=wrong(bad[0]), fix=fix)
        for lists in ("splits", "lists"):
            if (self.source.root / lists).is_dir():
                shutil.copytree(self.source.root / lists, self.folder / lists, dirs_exist_ok=True)
        rows = IndexTable(self.folder, len(self.source.classes))
        dataset = replace(self.source, name=name, root=self.folder, train=rows.train, val=rows.val)
        table = manifest(self.source.root)
        kept = {key: table[key] for key in ("source", "notes", "classes_file") if key in table}
        if classes := table.get("classes_file"):
            shutil.copyfile(self.source.root / classes, self.folder / classes)
        write_dataset(dataset, kept | {"shards": made})
        shutil.rmtree(self.folder / LINES)

    def _index(self) -> Iterator[str]:
        for record in self.source.labeled:
            yield record_line("train", self._brought(record), self.folder)
        for number in range(self.count):
            yield from read_text(self.lines(number)).splitlines()[1:]
        for record in self.source.val:
            yield record_line("val", self._brought(record), self.folder)

    def _listed(self, number: int) -> Listed:
        with self.lines(number).open(encoding="utf-8") as lines:
            found: Listed = shaped(json.loads(lines.readline(TEXT)), Listed)
        return found

    def _brought(self, record: Record) -> Record:
        """A record whose files are here, under its id: second names of the same files, or copies."""
        image = _linked(record.image, below(self.folder / "images", f"{record.id}{record.image.suffix}"))
        mask = record.mask and _linked(record.mask, below(self.folder / "masks", f"{record.id}{record.mask.suffix}"))
        return replace(record, image=image, mask=mask)


def _linked(file: Path, new: Path) -> Path:
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)  # of a run that was killed as it copied
    try:
        os.link(os.path.realpath(file), new)
    except FileNotFoundError:
        raise DataError(f"there is no {file}", why="it is in the dataset") from None
    except OSError:  # a disk that knows no second names, or another one
        shutil.copyfile(file, new)
    return new


def told(dataset: Dataset) -> dict[str, Any]:
    """What was made, as plain values. each: photos of a shard."""
    made = manifest(dataset.root)["shards"]
    return {
        "name": dataset.name,
        "folder": str(dataset.root),
        "photos": len(dataset.pool),
        "shards": made["count"],
        "each": made["photos"],
        "url": made.get("url", ""),
        "labeled": len(dataset.labeled),
        "val": len(dataset.val),
    }
