"""What somebody hands in: regular files of bounded size, read through one opening, with the shape that is declared.

What is wrong with a file itself is an OSError, what is wrong with what stands in it a ValueError that names the place.
Whoever asks makes of both an error that names the file.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
import threading
import tomllib
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, time
from io import BufferedReader
from pathlib import Path
from types import NoneType, UnionType
from typing import IO, Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from semiseg_cli.core.settings import Range, ranges

SMALL, TEXT, WHOLE = 1 << 20, 1 << 28, 1 << 36  # bytes: of a description; of a list or log; of anything

DIGITS = 300  # of a whole number

Level = Annotated[int, Range(0, 255)]  # of a colour
Side = Annotated[int, Range(0, 1 << 20)]  # pixels

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "nothing"}


def regular(path: Path, most: int = WHOLE) -> os.stat_result:
    """What the system says of a file. OSError unless it is regular, and no larger than `most` bytes."""
    return _checked(os.stat(path), most)


@contextmanager
def opened(path: Path, most: int = WHOLE) -> Iterator[BufferedReader]:
    """A regular file of at most `most` bytes, open; OSError for anything else. A pipe is not waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        _checked(os.fstat(handle), most)
        yield file


class At:
    """An open file that is read at places, by threads and forked processes at once. It closes with its last user.

    What was opened stays what is read, whatever takes its name meanwhile.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._handle, self._lock = os.dup(file.fileno()), threading.Lock()
        self._size = os.fstat(self._handle).st_size
        weakref.finalize(self, os.close, self._handle).atexit = False

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`. ValueError where it has, or now has, none there."""
        if not 0 <= start <= stop <= self._size:
            raise ValueError(f"it has {self._size:,} bytes, of which {start:,} to {stop:,} are none")
        if hasattr(os, "pread"):
            found = os.pread(self._handle, stop - start, start)
        else:  # Windows
            with self._lock:
                os.lseek(self._handle, start, os.SEEK_SET)
                found = os.read(self._handle, stop - start)
        if len(found) != stop - start:
            raise ValueError("it ends too early")
        return found


def _checked(found: os.stat_result, most: int) -> os.stat_result:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"it is {KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file")
    if found.st_size > most:
        raise OSError(f"it has {found.st_size:,} bytes, more than the {most:,} that are read")
    return found


def read_bytes(path: Path, most: int = TEXT) -> bytes:
    """Its bytes when it was opened: what somebody adds meanwhile is left out."""
    with opened(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def read_text(path: Path, most: int = TEXT) -> str:
    """Its text, UTF-8, or UTF-16 as PowerShell writes it, without a byte order mark."""
    data = read_bytes(path, most)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")


def instead(head: bytes) -> str:
    """What a file is in place of what its name says, where its first bytes tell; else empty."""
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs.github.com"):
        return "a pointer of Git LFS: git lfs pull brings the file itself"
    is_page = head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    return "a web page, as of a download that failed" if is_page else ""


def read_json(path: Path, hint: Any = Any, most: int = SMALL) -> Any:
    """The document of a JSON file, of the type `hint` (see `shaped`)."""
    return parse_json(read_text(path, most), hint)


def read_toml(path: Path, hint: Any = dict[str, Any], most: int = SMALL) -> Any:
    """The tables of a TOML file, likewise."""
    return parse_toml(read_text(path, most), hint)


def parse_toml(text: str, hint: Any = dict[str, Any]) -> Any:
    """Nothing of ours holds a date, and JSON has none: TOML's are refused wherever they stand, and so are numbers that
    64 bits cannot hold, which TOML has not."""
    try:
        tables = tomllib.loads(text)
        _plain_values(tables)
        return shaped(tables, hint)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _plain_values(value: Any, place: str = "") -> None:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        _plain_values(item, f"{place}.{key}" if place else str(key))
    _demand(not isinstance(value, date | time), value, "text or a number", place)  # a datetime is a date
    _demand(not isinstance(value, int) or _fits(value), value, "a number of 64 bits", place)


def _fits(number: int) -> bool:
    return number.bit_length() < 64


def _digits(text: str) -> int:
    """A whole number of JSON. ValueError for one that is beyond what a float can be: no file means that."""
    if len(text) > DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits")
    return int(text)


def parse_json(text: str, hint: Any = Any) -> Any:
    try:
        return shaped(json.loads(text, parse_int=_digits), hint)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shaped(value: Any, hint: Any, place: str = "") -> Any:
    """`value`, if it is of the type `hint`: what JSON and TOML have, a TypedDict of these, or such with a `Range`.

    place: where it stands, as `data.palette[2]`. Raises ValueError with it for anything else.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        shaped(value, parts[0], place)
        for limit in ranges(hint):
            _demand(value in limit, value, str(limit), place)
    elif is_typeddict(hint):
        _demand(isinstance(value, dict), value, "a table", place)
        for key, inner in get_type_hints(hint, include_extras=True).items():
            optional = get_origin(inner) is NotRequired  # or all of them are
            if key in value:
                shaped(value[key], get_args(inner)[0] if optional else inner, f"{place}.{key}" if place else key)
            elif not optional and key in hint.__required_keys__:
                raise ValueError(f"{place or 'it'} lacks '{key}'")
    elif kind in (Union, UnionType):
        fitting = [part for part in parts if isinstance(value, _plain(part))]
        allowed = " or ".join(WORDS.get(get_origin(part) or part, "a table") for part in parts)
        _demand(bool(fitting), value, allowed, place)
        shaped(value, fitting[0], place)
    elif kind is Literal:
        _demand(value in parts, value, " or ".join(map(str, parts)), place)
    elif kind is tuple and parts[-1] is not Ellipsis:
        _demand(isinstance(value, list | tuple) and len(value) == len(parts), value, f"{len(parts)} values", place)
        for number, (item, part) in enumerate(zip(value, parts, strict=True)):
            shaped(item, part, f"{place}[{number}]")
    elif kind in (list, tuple):
        _demand(isinstance(value, list | tuple), value, "a list", place)
        for number, item in enumerate(value):
            shaped(item, parts[0], f"{place}[{number}]")
    elif kind in (dict, Mapping):
        _demand(isinstance(value, dict), value, "a table", place)
        for key, item in value.items() if parts and parts[1] is not Any else ():
            shaped(item, parts[1], f"{place}.{key}" if place else str(key))
    elif kind is not Any:
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        good = number or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))
        _demand(good and (kind is not int or _fits(value)), value, WORDS[kind], place)
    return value


def _plain(hint: Any) -> Any:
    """What a value of a part of a union is an instance of."""
    kind = get_origin(hint) or hint
    if kind is Annotated:
        return _plain(get_args(hint)[0])
    return dict if is_typeddict(hint) else (int, float) if kind is float else kind


def _demand(good: bool, value: Any, allowed: str, place: str) -> None:
    if not good:
        shown = hex(value) if isinstance(value, int) and not _fits(value) else str(value)  # of many digits str fails
        raise ValueError(f"{place or 'it'} is {shown[:60]!r}, not {allowed}")
