"""Unpacking tar and zip archives: only what is wanted, nothing outside the folder, resumable.

An archive goes to a folder of its own, `<root>/unpacked/<its name>`. The file `.complete` in it is written last and
says which archive it was; a folder without it is gone on with.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from semiseg_cli.core.download import room
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import write_text

CHUNK = 1 << 20
# What an archive may unpack to: its bytes that many times, and some more; a file of it; and how many.
RATIO, FREE, LARGEST, MEMBERS = 100, 1 << 26, 1 << 30, 1 << 22
SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True)
class Member:
    """A regular file in an archive, with its size in bytes once unpacked."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpacked(archive: Path, root: Path) -> Path:
    """Where an archive is unpacked to."""
    name = archive.name
    suffix = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")
    return root / "unpacked" / (name[: len(name) - len(suffix)] or name)


def is_complete(folder: Path) -> bool:
    return (folder / ".complete").is_file()


def reopen(place: Path, root: Path) -> None:
    """Files of what was unpacked around `place` are gone: its archive, given again, brings them back."""
    for folder in (root / "unpacked").glob("*"):
        if place.is_relative_to(folder):
            (folder / ".complete").unlink(missing_ok=True)


def unpack(
    archive: Path,
    root: Path,
    wanted: Callable[[str], bool],
    advance: Callable[[float], None] = lambda megabytes: None,
) -> Path:
    """Unpack the members whose names are `wanted` into `unpacked(archive, root)`; at once if that has been done.

    advance: is told the MB of the archive as they are read.
    Raises DataError for a file that is no archive or is truncated, for members that would leave the folder or are
    links, for an archive that holds nothing wanted, and where the folder holds something else.
    """
    if not archive.is_file():
        raise DataError(f"there is no archive {archive}")
    stat = archive.stat()
    source = f"{archive.name}\n{stat.st_size}\n{stat.st_mtime_ns}\n"
    folder = unpacked(archive, root)
    marker, begun = folder / ".complete", folder / ".begun"
    if marker.is_file() and marker.read_text(encoding="utf-8") == source:
        return folder
    if marker.is_file() or (folder.exists() and not begun.is_file()):
        fix = "rename the archive, so that it gets a folder of its own"
        raise DataError(f"{folder} holds something else than {archive}", fix=fix)
    if begun.is_file() and begun.read_text(encoding="utf-8") != source:
        shutil.rmtree(folder)  # the archive has been replaced since, and nothing has used what came of the old one
    folder.mkdir(parents=True, exist_ok=True)
    room(folder, stat.st_size, f"unpacking {archive.name}")
    write_text(begun, source)
    if not _extract(archive, folder, wanted, advance):
        shutil.rmtree(folder)
        raise DataError(f"{archive} holds nothing that is asked for", fix="give the archive as it was published")
    write_text(marker, source)
    return folder


def _extract(archive: Path, folder: Path, wanted: Callable[[str], bool], advance: Callable[[float], None]) -> int:
    """How many wanted members there are; those that are there with the right size are not written again."""
    count, position, total = 0, 0, 0
    most = FREE + RATIO * archive.stat().st_size
    with archive.open("rb") as raw, _damage(archive):
        for number, member in enumerate(_members(archive, raw)):
            total += member.size
            if member.size > LARGEST or total > most or number >= MEMBERS:
                raise _bomb(archive, member, total, number)
            name = PurePosixPath(member.name.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts[:1]):
                what = f"{archive} holds '{member.name}', which would be unpacked outside its folder"
                raise DataError(what, why="nobody's data set needs that", fix="get the archive from its publisher")
            if wanted(str(name)):
                count += 1
                _write(member, folder / name)
            advance((raw.tell() - position) / 1e6)
            position = raw.tell()
    return count


def _write(member: Member, target: Path) -> None:
    if target.is_file() and target.stat().st_size == member.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with member.open() as source, temporary.open("wb") as file:
            left = member.size  # what comes beyond what it said is not written
            while left and (chunk := source.read(min(left, CHUNK))):
                left -= file.write(chunk)
        if temporary.stat().st_size != member.size:
            raise EOFError(f"'{member.name}' ends too early")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _members(archive: Path, raw: IO[bytes]) -> Iterator[Member]:
    """The regular files of an archive. Raises DataError for links and devices."""
    if zipfile.is_zipfile(raw) or archive.suffix.lower() == ".zip":  # the former looks at the end, which may lack
        with zipfile.ZipFile(raw) as opened:
            for item in opened.infolist():
                if (item.external_attr >> 16) & 0o170000 == 0o120000:
                    raise _link(archive, item.filename)
                if not item.is_dir():
                    yield Member(item.filename, item.file_size, partial(opened.open, item))
        return
    raw.seek(0)
    with _decompressed(raw) as plain, tarfile.open(fileobj=plain, mode="r:") as tar:
        for entry in tar:
            if not (entry.isfile() or entry.isdir()):
                raise _link(archive, entry.name)
            if entry.isfile():
                yield Member(entry.name, entry.size, partial(_tar_file, tar, entry))


@contextmanager
def _decompressed(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """A tar file without its compression, of which nobody takes more than CHUNK bytes at a time.

    The headers of a tar may say that they are gigabytes long, and would be read as a whole.
    """
    first = raw.read(6)
    raw.seek(0)
    kinds: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    unpacking = next((kind for start, kind in kinds.items() if first.startswith(start)), None)
    plain: IO[bytes] = raw if unpacking is None else unpacking(raw)
    take = plain.read

    def read(count: int = -1) -> bytes:
        if not 0 <= count <= CHUNK:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        return bytes(take(count))

    class Sips:
        seek, tell = plain.seek, plain.tell

    sips: Any = Sips()
    sips.read = read
    yield sips


def _tar_file(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(entry)
    assert file is not None, entry.name
    return file


def _bomb(archive: Path, member: Member, total: int, number: int) -> DataError:
    what = f"{archive} would unpack to more than {total:,} bytes in {number + 1:,} files"
    why = f"'{member.name}' alone has {member.size:,}; {LARGEST:,} a file and {RATIO} times the archive are taken"
    return DataError(what, why=why, fix="get the archive from its publisher, or unpack it yourself")


def _link(archive: Path, name: str) -> DataError:
    what = f"{archive} holds a link or a device, '{name}'"
    return DataError(what, why="a link can lead out of the folder", fix="get the archive from its publisher")


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """What the standard library raises for damaged archives becomes a DataError that names the archive."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk, not the archive, which may say that a member lies before its beginning
        size = archive.stat().st_size
        fix = "download or copy it again, and compare its size and checksum with the published ones"
        what = f"{archive} ({size:,} bytes) is truncated, damaged or no archive"
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")  # tarfile adds a line per compression
        raise DataError(what, why=why, fix=fix) from error
