"""Fetching a published file from one of several addresses: resumable, checked, and whole or not there at all."""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import digest
from semiseg_cli.core.web import ask

TIMEOUT_SECONDS = 30
ATTEMPTS = 20  # per address, as long as each brings something
CHUNK = 1 << 20


@dataclass(frozen=True)
class Published:
    """A file as its authors published it; size in bytes. Any address will do, because the digest decides."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


def download(
    item: Published,
    folder: Path,
    *,
    note: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda megabytes: None,
) -> Path:
    """`folder/<item.name>`, fetched unless it is there. What has arrived waits in `<name>.part` for the next attempt.

    note: is told what is fetched, from where, how large. advance: is told the MB as they come.
    Raises DataError with every address that was tried and what came of it.
    """
    target, part = folder / item.name, folder / f"{item.name}.part"
    if target.is_file() and target.stat().st_size == item.size:
        return target  # it got this name only after its digest was found right
    folder.mkdir(parents=True, exist_ok=True)
    if _length(part) > item.size:
        part.unlink()
    room(folder, item.size - _length(part), item.name)
    note(f"downloading {item.name} ({item.size / 1e6:,.0f} MB) to {target}")
    tried = []
    for url in item.urls:
        note(f"  from {url}")
        failure = _complete(url, part, item, advance)
        if not failure:
            os.replace(part, target)
            return target
        tried.append(f"{url}: {failure}")
    raise DataError(f"{item.name} could not be downloaded", why="\n".join(["tried:", *tried]))


def room(folder: Path, needed: int, what: str) -> None:
    """Raise DataError where fewer than `needed` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        why = f"{what} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {folder}"
        raise DataError("the disk has too little room", why=why, fix="free some, or --root on another disk")


def _complete(url: str, part: Path, item: Published, advance: Callable[[float], None]) -> str:
    """Bring `part` to its full length from this address and check it; returns why that failed, "" if it did not."""
    resumed = part.exists()
    for _ in range(ATTEMPTS):
        before = _length(part)
        try:
            if before != item.size:
                _fetch(url, part, item.size, advance)
            failure = ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = _reason(error)
        arrived = _length(part)
        if arrived == item.size:
            found = digest(part)
            if found == item.sha256:
                return ""
            part.unlink()
            failure = f"its sha256 is {found} instead of {item.sha256}"
            if not resumed:
                return failure
            resumed = False  # the beginning came from elsewhere and may be what was wrong: once more from the start
        elif arrived <= before:
            return failure or f"the connection ended after {arrived} of {item.size} bytes"
    return f"the connection broke {ATTEMPTS} times"


def _fetch(url: str, part: Path, size: int, advance: Callable[[float], None]) -> None:
    """Append what is missing to `part`; from the start where the server cannot resume. OSError for another file."""
    have = _length(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with ask(url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
        resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumes else 0
        length = response.headers.get("Content-Length")
        if response.status == 206 and not resumes:
            raise OSError("the server resumes at another place than asked")
        if length is not None and start + int(length) != size:
            raise OSError(f"it has {start + int(length)} bytes instead of {size}")
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(min(CHUNK, max(1, size - start))):
                start += len(chunk)
                if start > size:
                    raise OSError(f"it has more than {size} bytes")
                file.write(chunk)
                advance(len(chunk) / 1e6)


def _reason(error: Exception) -> str:
    """What went wrong, without the name of the library's class where there is more to say."""
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return str(reason) or type(error).__name__


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
