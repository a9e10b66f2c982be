"""What every `prepare` shares: all cores at work, what is ready recognised, nothing half-written taken for it.

A dataset that takes seconds is built in a hidden folder beside the target, which gets its name in one step
(`building`). One that takes minutes is built in place, and what is done is noted, so that a run that was interrupted
or killed is gone on with (`resumable`); it becomes a dataset with its `dataset.toml`, which is written last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import bringing_back
from semiseg_cli.core.data.index import is_prepared, load_dataset, manifest, to_toml
from semiseg_cli.core.data.names import fit_for_a_file
from semiseg_cli.core.data.shards import is_there
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.data.swapped import put_right
from semiseg_cli.core.errors import DataError, Interrupted
from semiseg_cli.core.owner import NAME, owned
from semiseg_cli.core.sources import archives
from semiseg_cli.core.sources.journal import UNFINISHED, Journal
from semiseg_cli.stages.progress import Progress

# Digests of what a dataset was made of: their values tell nobody anything.
DIGESTS = {
    "files": "an image or mask was added, removed or changed since (by its name, size or time)",
    "classes": "the file of the classes is another one, or was changed since",
}


def ready(root: Path, name: str, kind: str, source: Mapping[str, Any]) -> Dataset | None:
    """The dataset if it was prepared from exactly this; None if there is nothing or a beginning; else a DataError."""
    folder = root / name
    put_right(folder)
    if not is_prepared(folder) and (not folder.exists() or (folder / UNFINISHED).is_file()):
        return None
    fix = f"choose another name: --name {name}-2"
    if not is_prepared(folder):
        raise DataError(f"{folder} exists and is not a prepared dataset", fix=fix)
    table = manifest(folder)
    before = {"kind": table["kind"], **table.get("source", {})}
    now = {"kind": kind, **tomllib.loads(to_toml(source))}
    differ = [key for key in now | before if before.get(key) != now.get(key)]
    if differ:
        differ = ["kind"] if "kind" in differ else differ  # then nothing else can be compared
        why = "; ".join(_difference(key, before.get(key), now.get(key)) for key in differ)
        if kind == "folder" and set(differ) <= {"files", "unlabeled", "more"}:
            fix = f"{command('prepare', kind, '--name', name, '--update', root=root)} takes what changed; or {fix}"
        raise DataError(f"{folder} was prepared differently", why=why, fix=fix)
    return complete(root, name)


def _difference(key: str, before: Any, now: Any) -> str:
    if key in DIGESTS and before and now:
        return f"{key}: {DIGESTS[key]}"
    return f"{key}: {before} there, {now} here"


def complete(root: Path, name: str) -> Dataset:
    """A prepared dataset. Raises DataError where one of its files is gone."""
    if missing := lost(root, name):
        folder = root / name
        what = f"{folder} lacks {len(missing):,} of its files, the first is {missing[0]}"
        raise DataError(what, fix=bringing_back(folder, manifest(folder)["kind"], missing))
    return load_dataset(root, name)


def lost(root: Path, name: str) -> list[Path]:
    """Files of a prepared dataset that are not there."""
    dataset = load_dataset(root, name)
    files = [file for record in (*dataset.train, *dataset.val) for file in (record.image, record.mask) if file]
    return [file for file in files if not is_there(file)]


@contextmanager
def building(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder that becomes `<root>/<name>` if all goes well, and vanishes otherwise."""
    try:
        with alone(root, name):
            for left in root.glob(f".{name}.partial-*"):  # somebody was killed here
                shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=root))
            try:
                folder.chmod(0o755)  # mkdtemp makes it private
                yield folder
                os.rename(folder, root / name)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        fix = "free some disk space, or another data root: --root DIR"
        raise DataError(f"{root / name} cannot be written", why=str(error), fix=fix) from error


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """Within it nobody else prepares `<root>/<name>`. UsageError, naming who does, if somebody does."""
    fit_for_a_file(name, "the dataset's name")
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
    with owned(root / f".{name}{NAME}", f"the dataset {name} in {root}"):
        yield


@contextmanager
def resumable(root: Path, name: str, key: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of `<root>/<name>`, which is removed if all goes well; errors and interrupts leave it.

    key: says what is prepared; a journal of something else is begun anew.
    """
    with Journal(root / name, key) as journal:
        yield journal
    journal.remove()


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """An interrupt says that the same command goes on; a disk that is full or read-only is a DataError."""
    try:
        yield
    except KeyboardInterrupt:
        why = "what is done is kept"
        raise Interrupted(f"{what} was interrupted", why=why, fix="the same command goes on from there") from None
    except OSError as error:
        raise DataError(f"{what} cannot go on", why=str(error)) from error


def unpack(file: Path, root: Path, wanted: Callable[[str], bool], progress: Progress) -> Path:
    """`archives.unpack` with a display of its progress."""
    megabytes = round(file.stat().st_size / 1e6) if file.is_file() else 0
    with progress(f"unpacking {file.name} (MB)", megabytes) as advance:
        return archives.unpack(file, root, wanted, advance)


def made_of(folder: Path, kind: str) -> dict[str, Any]:
    """What a prepared dataset of this kind was made of; empty where there is none."""
    table = manifest(folder) if is_prepared(folder) else {}
    return dict(table.get("source", {})) if table.get("kind") == kind else {}


def place(path: Path | None, root: Path) -> str:
    """A path as `dataset.toml` keeps it: from the data root if it lies below it, else absolute; "" for none."""
    if path is None:
        return ""
    whole, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (whole.relative_to(base) if whole.is_relative_to(base) else whole).as_posix()
