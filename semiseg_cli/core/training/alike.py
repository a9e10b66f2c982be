"""What several processes must have alike before they share work, by its digest: a dataset, a network, a folder."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch.distributed as dist

from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import DataError, SemisegError
from semiseg_cli.core.files import digest
from semiseg_cli.core.ops.processes import told
from semiseg_cli.core.training.distributed import World

T = TypeVar("T")
Facts = Mapping[str, str]


class Said(NamedTuple):
    """Of one process: its machine, and what it has of what was asked, or why it has nothing."""

    host: str
    what: str
    facts: Facts
    error: SemisegError | None


def alike(what: str, make: Callable[[], T], facts: Callable[[T], Facts], world: World) -> T:
    """What `make` gives, which must be the same in all processes by its `facts`: what they are, and their values.

    The first process makes it first, and alone, so that whatever is written on the way is written by one; the others
    find it. Every process must call it. Where one has none, or another one, all raise the same error, which names it,
    its machine and what differs; the first tells it.
    """
    if world.size == 1:
        return make()
    made, mine = list[T](), list[Said | None]([None])
    if world.main:
        mine = [_said(what, make, facts, made)]
    dist.broadcast_object_list(mine, 0)
    first = mine[0]
    assert first is not None
    said = told(first if world.main or first.error else _said(what, make, facts, made))
    if error := first.error or _difference(said):
        error.agreed, error.told = True, not world.main
        raise error
    return made[0]


def _said(what: str, make: Callable[[], T], facts: Callable[[T], Facts], made: list[T]) -> Said:
    try:
        made.append(make())
        return Said(socket.gethostname(), what, facts(made[0]), None)
    except SemisegError as error:
        return Said(socket.gethostname(), what, {}, error)


def _difference(said: list[Said]) -> SemisegError | None:
    """What is wrong with the first process that has not what process 0 has."""
    first = said[0]
    for rank, other in enumerate(said):
        who, here = f"process {rank} on {other.host}", f"process 0 on {first.host}"
        if other.error:
            error = type(other.error)(f"{who} has not what {here} has: {other.error.what}")
            error.why, error.fix = other.error.why, other.error.fix
            return error
        if names := [name for name in first.facts if first.facts[name] != other.facts[name]]:
            why = "; ".join(f"{name}: {first.facts[name]:.70} there, {other.facts[name]:.70} here" for name in names)
            fix = "let all machines see one folder, or copy it from the first to the others whole (rsync -a)"
            return DataError(f"{who} has another {first.what} than {here}", why=why, fix=fix)
    return None


def same_dataset(open_: Callable[[], Dataset], world: World) -> Dataset:
    """A prepared dataset that all processes find alike."""
    return alike("dataset", open_, _of_dataset, world)


def same_members(open_: Callable[[], tuple[Dataset, Partition]], world: World) -> tuple[Dataset, Partition]:
    """A dataset and its partition that all processes find alike."""

    def facts(found: tuple[Dataset, Partition]) -> Facts:
        dataset, partition = found
        lists = {"labeled images": partition.fingerprint, "unlabeled images": f"{len(partition.unlabeled):,}"}
        return {**_of_dataset(dataset), **lists}

    return alike("dataset", open_, facts, world)


def same_file(path: Path, world: World) -> Path:
    """A file that all processes find with the same content."""
    return alike(f"file {path}", lambda: _there(path), lambda found: {"sha256": digest(found)}, world)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    return path


def one_folder(folder: Path, world: World) -> Path:
    """A folder that is one for all processes, who all write into it; it is made if it is not there."""
    if world.size == 1:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    token = told(secrets.token_hex(8))[0]
    sign = folder / f".{token}"

    def look() -> bool:
        try:
            if world.main:
                folder.mkdir(parents=True, exist_ok=True)
                sign.touch()
            return sign.exists()
        except OSError as error:
            raise DataError(f"cannot write into {folder}", why=str(error), fix="choose another folder") from error

    try:
        alike(f"folder {folder}", look, lambda seen: {"a file of process 0": "is" if seen else "is not"}, world)
    finally:
        if world.main:
            with suppress(OSError):
                sign.unlink()
    return folder


def _of_dataset(dataset: Dataset) -> Facts:
    """What training and measuring read of it; not where its photos were taken from."""
    said = {name: str(getattr(dataset, name)) for name in ("classes", "ignore", "window", "long_side", "levels")}
    images = {"training images": f"{len(dataset.train):,}", "validation images": f"{len(dataset.val):,}"}
    return {**images, **said, "sha256 of index.tsv": digest(dataset.root / "index.tsv")}
