"""Photos in shards: tar files as any tar opens them, of which a photo is read by where it lies.

A record in a shard has the path `<dataset>/shards/00012.tar/<offset>/<name>`, `offset` being the first byte of the
photo in the tar. `shards.json` beside the shards says how long each is, and its sha256. With a `store.toml` they lie in
an object store, and the folder holds those that were read last (`store.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypedDict

from semiseg_cli.core.data import store
from semiseg_cli.core.errors import BadFile, SemisegError
from semiseg_cli.core.files import settle, whole
from semiseg_cli.core.reading import TEXT, At, opened, read_json
from semiseg_cli.core.settings import Natural

FOLDER, LISTED = "shards", "shards.json"
HEAD = tarfile.BLOCKSIZE  # bytes of a member's header; what it holds is filled up to a multiple of it
OPEN = 16  # shards that a process has open
_MEMBER = re.compile(rf"(.+/{FOLDER}/\d{{5,}}\.tar)/(\d+)/(.+)", re.DOTALL)
FIX = "bring the shard back as it was, or make the shards again"


class Listed(TypedDict):
    """What `shards.json` says of a shard."""

    bytes: Natural
    sha256: str


class Member(NamedTuple):
    """A photo in a shard: its first byte, and what the tar calls it."""

    shard: Path
    offset: int
    name: str


def name_of(number: int) -> str:
    return f"{number:05d}.tar"


def member(path: Path) -> Member | None:
    """The photo that a record's path names, None for that of a file."""
    text = path.as_posix()
    found = _MEMBER.fullmatch(text) if ".tar/" in text else None
    return Member(Path(found[1]), int(found[2]), found[3]) if found else None


def content(photo: Member, length: int = 0) -> bytes:
    """The bytes of a photo. length: how many it has, as the index says; 0: it is not known.

    Raises BadFile for a shard that is not there or ends too early, and where another photo, or none, lies in this
    place: of a shard that was replaced, or an index of other shards. DataError where its store cannot be reached.
    """
    try:
        if not length:
            length = _head(photo, _bytes(photo.shard, photo.offset - HEAD, photo.offset)).size
        data = _bytes(photo.shard, photo.offset - HEAD, photo.offset + length)
        found = _head(photo, data[:HEAD])
    except FileNotFoundError:
        raise BadFile(f"there is no shard {photo.shard}", why=f"{photo.name} is in it", fix=FIX) from None
    except SemisegError:
        raise
    except ValueError as error:
        raise BadFile(f"{photo.shard} ends before {photo.name} in it does", why=str(error), fix=FIX) from None
    except OSError as error:
        raise BadFile(f"cannot read {photo.shard}", why=str(error), fix=FIX) from None
    if found.size != length:
        raise _other(photo, f"{photo.name} has {found.size:,} bytes there, and {length:,} in the index")
    return data[HEAD:]


def _head(photo: Member, data: bytes) -> tarfile.TarInfo:
    """What the tar says of the photo. BadFile where that is none, or another one."""
    try:
        found = tarfile.TarInfo.frombuf(data, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _other(photo, f"no photo begins at byte {photo.offset:,} ({error})") from None
    if data[:100].rstrip(b"\0") != photo.name.encode()[:100]:  # of a longer name the rest stands in a block before
        raise _other(photo, f"byte {photo.offset:,} is where {found.name!r} begins")
    return found


def _other(photo: Member, why: str) -> BadFile:
    what = f"{photo.shard} is not the shard that was indexed: {photo.name} is not where it was"
    return BadFile(what, why=why, fix=FIX)


def _bytes(shard: Path, start: int, stop: int) -> bytes:
    """Bytes of a shard, which is brought from its store if it lies there. OSError or ValueError where they are not."""
    if place := store.of(shard.parent):
        for _ in range(store.TRIES):
            try:
                with opened(shard) as file:
                    os.utime(file.fileno())  # those that were not asked for the longest go first
                    return At(file).read(start, stop)
            except FileNotFoundError:
                size = listed(shard.parent)[shard.name]
                store.fetch(shard, place, size["bytes"], size["sha256"])
        raise OSError("it went from the cache as often as it came: --cache-gb is too small for so many processes")
    return _opened(shard).read(start, stop)


def is_far(path: Path) -> bool:
    """Whether a record's photo is in a shard of which the store has the only lasting copy."""
    photo = member(path)
    return photo is not None and store.of(photo.shard.parent) is not None


def expect(path: Path) -> None:
    """Begin to fetch the shard of a photo that is far and will be read soon, if it is not here."""
    photo = member(path)
    if photo and not photo.shard.exists() and (place := store.of(photo.shard.parent)):
        said = listed(photo.shard.parent)[photo.shard.name]
        store.begin(photo.shard, place, said["bytes"], said["sha256"])


@lru_cache(maxsize=OPEN)
def _opened(shard: Path) -> At:
    with opened(shard) as file:
        return At(file)


def listed(folder: Path) -> dict[str, Listed]:
    """What `shards.json` in a folder of shards says, by name. BadFile where it cannot be read."""
    path = folder / LISTED
    try:
        state = path.stat()
        return _listed(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError) as error:
        raise BadFile(f"cannot read {path}", why=str(error), fix=FIX) from None


@lru_cache(maxsize=4)
def _listed(path: Path, time: int, size: int) -> dict[str, Listed]:
    found: dict[str, Listed] = read_json(path, dict[str, Listed], TEXT)
    return found


def is_there(path: Path) -> bool:
    """Whether the file of a record is there; of one in a shard, whether that is as long as it was, or in a store."""
    photo = member(path)
    return not wrong(photo.shard) if photo else path.is_file()


def wrong(shard: Path) -> str:
    """What is wrong with a shard, as far as its length tells; empty where nothing is."""
    said = listed(shard.parent).get(shard.name)
    if said is None:
        return f"it is none of those in {shard.parent / LISTED}"
    try:
        length = shard.stat().st_size
    except OSError as error:
        return "" if store.of(shard.parent) else error.strerror or str(error)
    return "" if length == said["bytes"] else f"it has {length:,} bytes, and had {said['bytes']:,}"


def state_of(path: Path) -> tuple[int, int | str]:
    """What tells whether the file of a record is still the same: size and time, or of which shard it is a part.

    OSError for a file that is not there.
    """
    if photo := member(path):
        said = listed(photo.shard.parent).get(photo.shard.name)
        if said is None:
            raise OSError(f"there is no shard {photo.shard}")
        return photo.offset, said["sha256"]
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def room(length: int) -> int:
    """The bytes that a photo takes in a shard."""
    return HEAD + length + -length % HEAD


def write(shard: Path, photos: Iterable[tuple[str, bytes]]) -> tuple[list[int], Listed]:
    """Write photos, by their names, as a tar: whole or not at all. Returns where each begins, and what to list."""
    offsets, digest, end = list[int](), hashlib.sha256(), 0
    with whole(shard) as new, new.open("wb") as file:

        def put(data: bytes) -> None:
            nonlocal end
            file.write(data)
            digest.update(data)
            end += len(data)

        for name, data in photos:
            head = tarfile.TarInfo(name)
            head.size = len(data)
            put(head.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            offsets.append(end)
            put(data)
            put(bytes(-end % HEAD))
        put(bytes(2 * HEAD))  # how a tar ends
        put(bytes(-end % tarfile.RECORDSIZE))
    settle(shard)
    return offsets, {"bytes": end, "sha256": digest.hexdigest()}
