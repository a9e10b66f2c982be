"""Shards in an object store: fetched whole into a folder that holds so many bytes, those that were read last.

Any number of processes and threads of a machine share the folder. One fetches a shard while the others wait for it: it
holds a lock on the `.part` that becomes the shard. A `.part` without a lock is what somebody left who was killed.
Where the folder's file system has no locks, each fetches into a `.part` of its own, and the last one is the shard; one
that nobody wrote to for long was left; and the bound is exceeded by what begins to come in the same moment.
Transfers are made by a program of their own (`transfer.py`), since obstore does not survive the fork of a loader.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, TypedDict

from semiseg_cli.core.data import transfer
from semiseg_cli.core.errors import DataError, SemisegError, UsageError
from semiseg_cli.core.files import toml_value, write_text
from semiseg_cli.core.locks import hold
from semiseg_cli.core.reading import read_toml
from semiseg_cli.core.settings import Natural

STORE, PART, LOCK = "store.toml", ".part", ".lock"
CACHE_GB = 8.0  # where it is not told
TRIES = 8  # of a reader whose shard goes from the cache before it has opened it
SCHEMES = ("s3", "gs", "az", "abfss", "https", "http", "file")
CHUNK = 1 << 20
LEFT = 3600.0  # seconds without a byte after which a `.part` without locks was left

_begun = set[Path]()  # shards that a thread of this process fetches


class Store(TypedDict):
    """What `store.toml` says: where the shards are, and how many bytes of them are kept here."""

    url: str
    cache: Natural


@lru_cache(maxsize=4)
def of(folder: Path) -> Store | None:
    """The store of a folder of shards; None where they all lie in it. DataError for one that cannot be read."""
    path = folder / STORE
    if not path.is_file():
        return None
    try:
        found: Store = read_toml(path, Store)
    except (OSError, ValueError) as error:
        fix = 'it has two lines: url = "s3://bucket/folder" and cache = 8000000000'
        raise DataError(f"{path} cannot be read", why=str(error), fix=fix) from error
    return found


def require(url: str) -> None:
    """Raise UsageError where this address cannot be reached by what is installed."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES or "://" not in url:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise UsageError(f"{url} is no address of an object store", why=f"it begins with none of {known}")
    if find_spec("obstore") is None:
        raise UsageError(f"{url} needs the package obstore", fix="pip install 'semiseg[shards]'")


def keep(folder: Path, store: Store) -> None:
    """Write where the shards of a folder are."""
    write_text(folder / STORE, f'url = {toml_value(store["url"])}\ncache = {store["cache"]}\n')


def fetch(shard: Path, store: Store, size: int, sha256: str) -> None:
    """Bring a shard into the cache, if nobody has meanwhile. DataError where that fails, or it is another one."""
    require(store["url"])
    try:
        part = _part(shard)
        with _mine(part) as file:
            if shard.exists():
                part.unlink()
                return
            _make_room(shard.parent, store["cache"], file, size)
            try:
                _receive(store["url"], shard.name, file, size, sha256)
                os.replace(part, shard)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        fix = f"free some disk space, or a smaller cache in {shard.with_name(STORE)}"
        raise DataError(f"cannot write {shard}", why=str(error), fix=fix) from error


def begin(shard: Path, store: Store, size: int, sha256: str) -> None:
    """Fetch a shard while this process does something else. What goes wrong is met by whoever reads it."""

    def bring() -> None:
        try:
            with suppress(SemisegError):
                fetch(shard, store, size, sha256)
        finally:
            _begun.discard(shard)

    if shard not in _begun:
        _begun.add(shard)
        threading.Thread(target=bring, daemon=True).start()


def send(shard: Path, url: str) -> None:
    """Upload a shard. DataError where that fails."""
    require(url)
    program = [*_program("put", url, shard.name), str(shard)]
    done = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        raise _failed(f"cannot write {shard.name} to {url}", done.stderr)


def _receive(url: str, name: str, file: BinaryIO, size: int, sha256: str) -> None:
    digest, length = hashlib.sha256(), 0
    program = _program("get", url, name)
    with subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        assert sender.stdout
        assert sender.stderr
        try:
            while data := sender.stdout.read(CHUNK):
                length += len(data)
                if length > size:
                    break
                digest.update(data)
                file.write(data)
        except BaseException:
            sender.kill()
            raise
        sender.stdout.close()  # whoever still writes ends
        said = sender.stderr.read()
    file.flush()
    if sender.returncode and length <= size:
        raise _failed(f"cannot fetch {name} from {url}", said)
    if length != size or digest.hexdigest() != sha256:
        what = f"{name} in {url} is not the shard that was written there"
        why = "it has another content" if length == size else f"it has not {size:,} bytes"
        raise DataError(what, why=why, fix="bring it back as it was, or make the shards again")


def _program(*words: str) -> list[str]:
    return [sys.executable, "-P", str(Path(transfer.__file__)), *words]


def _failed(what: str, said: bytes) -> DataError:
    why = said.decode("utf-8", "replace").strip()[-1000:]
    fix = "see whether it can be reached, and the variables that give access to it (AWS_..., GOOGLE_..., AZURE_...)"
    return DataError(what, why=why, fix=fix)


def _part(shard: Path) -> Path:
    """What becomes the shard: the same for all who fetch it, if locks let only one of them write to it."""
    with open(shard.with_name(LOCK), "ab") as file:
        locks = hold(file.fileno(), wait=False) is not None
    return shard.with_name(f".{shard.name}{'' if locks else f'.{secrets.token_hex(4)}'}{PART}")


@contextmanager
def _mine(part: Path) -> Iterator[BinaryIO]:
    """The file, empty, of which this holds the lock, if there are locks; whoever has it is waited for."""
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "wb") as file:
            hold(file.fileno())
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(part), os.fstat(file.fileno())):  # else it became the shard
                    os.truncate(file.fileno(), 0)
                    yield file
                    return


def _make_room(folder: Path, most: int, new: BinaryIO, size: int) -> None:
    """Remove the shards that were not read the longest, until all, with those on their way, are within the bound.

    new: what is about to get `size` bytes; it has them from here on, for others who count.
    """
    with open(folder / LOCK, "ab") as lock:
        hold(lock.fileno())
        coming = sum(_coming(part) for part in folder.glob(f".*{PART}"))
        found = list[tuple[int, int, Path]]()
        for shard in folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                state = shard.stat()
                found.append((state.st_mtime_ns, state.st_size, shard))
        held = size + coming + sum(length for _, length, _ in found)
        for _, length, shard in sorted(found):
            if held <= most:
                break
            shard.unlink(missing_ok=True)
            held -= length
        os.truncate(new.fileno(), size)


def _coming(part: Path) -> int:
    """The bytes that a shard on its way will have; one that nobody fetches any more is removed."""
    try:
        with part.open("rb+") as file:
            mine, state = hold(file.fileno(), wait=False), os.fstat(file.fileno())
            if mine or (mine is None and time.time() - state.st_mtime > LEFT):
                part.unlink(missing_ok=True)
                return 0
            return state.st_size
    except FileNotFoundError:
        return 0
