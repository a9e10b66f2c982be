"""Partitions: which training images count as labeled. Every partition has a fingerprint, so that results compare.

A published list at hand is taken as it is. An own partition is a function of the image ids, the classes in their masks,
the count, the seed and the balance; it does not depend on the order of files, the machine, or the version of a random
generator. Images are drawn in the order of sha256(seed, id), and a larger partition of the same seed contains the
smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import adding, completing
from semiseg_cli.core.data.decode import decode_mask
from semiseg_cli.core.data.names import draw_key, fingerprint
from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import DataError, UsageError, counted
from semiseg_cli.core.partitions import WAYS
from semiseg_cli.core.partitions.lists import read_list, read_lists
from semiseg_cli.core.partitions.protocols import Protocol, Recipe, protocols, recognise
from semiseg_cli.core.partitions.titles import advice, incomplete, shortfall, stand_in, title
from semiseg_cli.core.registry import load_named


def resolve_partition(dataset: Dataset, labeled: str, *, balance: str = "classes", seed: int = 0) -> Partition:
    """The partition that a user's words mean.

    labeled: "" (every image with a mask); a list file, a folder with `labeled.txt`, or the name of one below
        `<dataset>/splits`; a count "183" or a fraction "1/8", of a protocol where they begin with its name
        ("classic/183"). A size that a protocol has means its published list if that is at hand, else an own partition.
    balance: "classes" or "random", for an own partition.
    Every other training image is unlabeled, unless an `unlabeled.txt` says which are. Raises UsageError for words
    without a meaning, or with two, and DataError for lists and counts that do not fit.
    """
    pool = dataset.labeled
    if not pool:
        fix = f"{adding(dataset, '--labeled', 'DIR', '--masks', 'DIR')}another --data"
        raise DataError(f"dataset '{dataset.name}' has no labeled image", fix=fix)
    if not labeled:
        return _partition(dataset, pool, f"all {len(pool)} labeled images")
    if place := _list_at_hand(dataset, labeled):
        return from_lists(dataset, place)
    asked = ask(dataset, labeled)
    if asked.place and (place := _list_at_hand(dataset, asked.place)):
        return from_lists(dataset, place)
    own = draw(dataset, asked, balance=balance, seed=seed)
    return own if recognise(own.fingerprint) else _hinted(own, stand_in(dataset, asked.recipe))


@dataclass(frozen=True)
class Asked:
    """A count or a fraction, and the protocol and its recipe where it means those."""

    size: str
    source: Records | None  # images that an own partition is drawn from; None: not all of them are here
    protocol: Protocol | None = None
    recipe: Recipe | None = None

    @property
    def place(self) -> str:
        """Where the usual published list is, below the dataset's `splits`; empty where there is none."""
        return f"{self.protocol.name}/{self.recipe.labeled}" if self.protocol and self.recipe else ""


def ask(dataset: Dataset, words: str) -> Asked:
    """The size and the protocol that words mean.

    Words without a protocol's name mean one that has this size, if its images or its list are here.
    Raises UsageError where two protocols can be meant, and for words of no such form.
    """
    known = protocols(dataset.kind)
    name, _, size = words.partition("/")
    if named := next((protocol for protocol in known if protocol.name == name), None):
        return _named(dataset, named, size)
    if not re.fullmatch(r"\d+(/\d+)?", words):
        raise UsageError(
            f"'{words}' is neither a count, a fraction, nor a list of labeled images",
            why="no such file, and no folder of that name with a labeled.txt",
            fix="--labeled 23, 1/8, or FILE with an image id per line",
        )
    candidates = [Asked(words, _source(dataset, protocol), protocol, protocol.recipe(words)) for protocol in known]
    meant = [c for c in candidates if c.recipe and (c.source is not None or _list_at_hand(dataset, c.place))]
    if len(meant) > 1:
        raise UsageError(
            f"'{words}' can be {' or '.join(each.place for each in meant)} on {dataset.name}",
            why="; ".join(f"{each.name} draws from {each.images:,} images" for each in known),
            fix=f"--labeled {meant[0].place}",
        )
    whole = [replace(each, recipe=None) for each in candidates if each.source == dataset.labeled]
    return next(iter(meant or whole), Asked(words, dataset.labeled))


def draw(dataset: Dataset, asked: Asked, *, balance: str, seed: int) -> Partition:
    """An own partition. DataError where there are fewer images than asked for."""
    source = asked.source
    if source is None:
        assert asked.protocol is not None
        raise DataError(
            f"{asked.protocol.name} is drawn from {asked.protocol.images:,} images that '{dataset.name}' does not have",
            why=f"it has {len(dataset.labeled):,} images with a mask",
            fix=f"{completing(dataset.name, dataset.kind, dataset.root.parent)}; or a plain count: --labeled 23",
        )
    count = asked.recipe.labeled if asked.recipe else _count(asked.size, len(source))
    if count > len(source):
        what = f"{counted(count, 'labeled image')} asked for, dataset '{dataset.name}' has {len(source)}"
        raise DataError(what, fix=f"--labeled {len(source)} or fewer")
    if count == len(dataset.labeled):
        return _partition(dataset, source, f"all {count} labeled images")
    chosen = _of_ids(source, choose(source, len(dataset.classes), count, balance=balance, seed=seed))
    name = f"own partition, seed {seed}, {count} of {len(source)} ({balance})"
    protocol = asked.protocol.name if asked.protocol else ""
    own = _partition(dataset, chosen, f"{name}, {protocol}" if protocol else name, protocol)
    return _hinted(own, advice(dataset, asked.size, asked.protocol, asked.recipe, len(source)))


def from_lists(dataset: Dataset, place: Path) -> Partition:
    """The partition that a folder's lists, or a list of labeled images, are; DataError where they do not fit."""
    lists = read_lists(place, dataset)
    file = place / "labeled.txt" if place.is_dir() else place
    name = f"list {file}, {len(lists.labeled)} of {len(dataset.labeled)}"
    return _partition(dataset, lists.labeled, name, unlabeled=lists.unlabeled)


def choose(records: Sequence[Record], classes: int, count: int, *, balance: str, seed: int) -> list[str]:
    """Ids of `count` labeled records, in the order in which they were drawn.

    balance: a name in WAYS; what it chooses among stands in the order of sha256(seed, id). Raises UsageError with a
    hint for any other.
    """
    way = load_named(WAYS, balance, f"there is no balance '{balance}'")
    order = sorted(records, key=lambda record: draw_key(seed, record.id))
    has = np.array([np.array(class_pixels(record, classes)) > 0 for record in order])
    return [order[pick].id for pick in way(has, count, lambda word: draw_key(seed, word))]


def class_pixels(record: Record, classes: int) -> tuple[int, ...]:
    """Pixels of every class in a labeled record: as counted by `prepare`, else counted from its (index PNG) mask."""
    if record.pixels:
        return record.pixels
    assert record.mask is not None
    return tuple(np.bincount(decode_mask(record.mask).ravel(), minlength=256)[:classes].tolist())


def nothing_known(labeled: int) -> DataError:
    """The error of a partition whose labeled images tell nothing."""
    return DataError(
        f"none of {counted(labeled, 'labeled image')} has a pixel of a known class",
        why="every pixel of their masks is ignored",
        fix="choose others, with other masks: --labeled FILE",
    )


def _of_ids(records: Records, ids: Iterable[str]) -> Records:
    wanted = set(ids)
    return records.only(place for place, record in enumerate(records) if record.id in wanted)


def _partition(
    dataset: Dataset, chosen: Records, name: str, protocol: str = "", unlabeled: Records | None = None
) -> Partition:
    """Some images of the dataset labeled, and all others (or those of `unlabeled`) not. A published set has its name.

    chosen, unlabeled: among the training images.
    """
    mark = fingerprint(record.id for record in chosen)
    known = recognise(mark)
    pool = (dataset.training if unlabeled is None else unlabeled).without(chosen)
    kind = known.data if known else dataset.kind if protocol else ""
    whole = fingerprint(record.id for records in (chosen, pool) for record in records) if kind else ""
    short = shortfall(kind, len(chosen), len(pool), whole)
    name = title(name, known, short)
    return Partition(
        name=name,
        labeled=chosen,
        unlabeled=pool.shown_bare(),
        fingerprint=mark,
        protocol=known.protocol if known else protocol,
        hint=incomplete(dataset, name) if short else "",
    )


def _hinted(partition: Partition, line: str) -> Partition:
    """The partition with one more line for the user."""
    return replace(partition, hint="\n".join(filter(None, (line, partition.hint))))


def _named(dataset: Dataset, protocol: Protocol, size: str) -> Asked:
    """What `classic/<size>` means. UsageError for a list of another name, such as `classic/732-cps`, not at hand."""
    recipe = protocol.recipe(size)
    if recipe is None and not re.fullmatch(r"\d+(/\d+)?", size):
        raise UsageError(
            f"there is no list '{protocol.name}/{size}' at hand",
            why=f"sizes of {protocol.name}: {', '.join(str(recipe.labeled) for recipe in protocol.recipes)}",
            fix=f"{command('split', dataset.name, '--list', root=dataset.root.parent)}; --fetch or --import DIR",
        )
    return Asked(size, _source(dataset, protocol), protocol, recipe)


def _source(dataset: Dataset, protocol: Protocol) -> Records | None:
    """The images that a protocol draws from; None unless the dataset has exactly those, with masks."""
    records = dataset.labeled
    if protocol.source:
        file = dataset.root / protocol.source
        records = read_list(file, records) if file.is_file() else records.only([])
    fits = len(records) == protocol.images and fingerprint(record.id for record in records) == protocol.sha256
    return records if fits else None


def _list_at_hand(dataset: Dataset, words: str) -> Path | None:
    """A list file, or a folder with a `labeled.txt`: as a path, or below the dataset's `splits`."""
    for path in (Path(words), dataset.root / "splits" / words):
        if path.is_file() or (path / "labeled.txt").is_file():
            return path
    return None


def _count(size: str, available: int) -> int:
    """How many images a count or a fraction means. UsageError for what is no fraction, and for 0."""
    if "/" in size:
        part, whole = map(int, size.split("/"))
        if not 0 < part <= whole:
            raise UsageError(f"'{size}' is not a fraction of the labeled images", fix="for example 1/8")
        return max(1, (2 * part * available + whole) // (2 * whole))
    if not int(size):
        raise UsageError("0 labeled images asked for", why="every method needs at least one", fix="for example 1/8")
    return int(size)
