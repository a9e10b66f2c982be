"""Names of images: the stem a line of a list stands for, the fingerprint of a set, a random order."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from semiseg_cli.core.errors import DataError, UsageError, counted
from semiseg_cli.core.reading import read_bytes

_ENDING = r"\.(?:jpe?g|png|bmp|tiff?|webp|ppm|pgm|gif|heic|heif|hif|avif|jfif|mat)"
_SUFFIX = re.compile(f"{_ENDING}$", re.IGNORECASE)
_PAIR = re.compile(rf"(.+?{_ENDING})[\s,;]+\S.*{_ENDING}", re.IGNORECASE)  # of an image and its mask
_CITYSCAPES = re.compile(r"_(leftImg8bit|gtFine_\w+)$")
_ODD = re.compile(r"[.\s\\]|/$|_leftImg8bit|_gtFine_")  # what makes a line more than folders and a stem


def stem_of(line: str) -> str:
    """The image stem a line of a list stands for: an id, an image path, or the field's `image_path mask_path`.

    >>> stem_of("leftImg8bit/train/ulm/ulm_000009_000019_leftImg8bit.png gtFine/train/ulm/x.png")
    'ulm_000009_000019'
    """
    if not _ODD.search(line):  # as most ids are: a fifth of the time
        return line.rpartition("/")[2]
    return _CITYSCAPES.sub("", PurePosixPath(path_of(line)).name)


def path_of(line: str) -> str:
    """The path of the image that a line of a list names, with slashes and without its suffix.

    >>> path_of("C:\\\\data\\\\my photos\\\\a.jpg masks/a_gt.png")
    'C:/data/my photos/a'
    """
    pair, words = _PAIR.fullmatch(line.strip()), line.split()
    first = words[0] if len(words) == 2 and _SUFFIX.search(words[0]) else line.strip()
    return _SUFFIX.sub("", (pair[1] if pair else first).replace("\\", "/"))


def unfit(name: str) -> str:
    """Why a name that stands in a file cannot be that of a file below a folder; empty where it can."""
    if "\0" in name:
        return "has a zero in it"
    if name[:1] in ("/", "\\") or (os.name == "nt" and PureWindowsPath(name).drive):
        return "is a path that begins at the root"
    return "leads out of its folder" if ".." in re.split(r"[/\\]", name) else ""


def fit_for_a_file(name: str, what: str) -> str:
    """The name, if it is. UsageError for one that is not; what: whose name it is, as `the dataset's name`."""
    if wrong := unfit(name):
        fix = "a name alone, and --root for the folder that it is in"
        raise UsageError(f"{what} {name!r} is not possible: it {wrong}", fix=fix)
    return name


def below(folder: Path, name: str) -> Path:
    """`folder/name`, for a file that is written. DataError for a name that leads elsewhere."""
    if wrong := unfit(name):
        raise DataError(f"{name!r} {wrong}: nothing is written there", fix="rename the image, or repair index.tsv")
    return folder / name


def fingerprint(ids: Iterable[str]) -> str:
    """sha256 of the sorted unique image stems, joined by newline; of the ids where two of them share a stem."""
    unique = set(ids)
    stems = {stem_of(id) for id in unique}
    names = stems if len(stems) == len(unique) else unique
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def read_lines(file: Path) -> list[str]:
    """Lines without their ends (of any system), outer spaces, a byte order mark, and empty ones; UTF-8 or UTF-16."""
    try:
        text = decoded(read_bytes(file))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read", why=str(error)) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def decoded(data: bytes) -> str:
    """Text of a file: UTF-16 where a byte order mark or its zeros say so, else UTF-8; what is neither is replaced.

    Up to the Ctrl-Z with which old editors end a text.
    """
    return _text(data).partition("\x1a")[0]


def _text(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:200]:  # of Latin text in UTF-16 every other byte is zero
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace")
    return data.decode("utf-8-sig", "replace")


def draw_key(seed: int, key: str) -> bytes:
    """What images are sorted by where they are drawn at random."""
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()


def shared_start(one: Sequence[str], other: Sequence[str]) -> int:
    """How many letters of two words, or words of two lists, are the same until one differs."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def images(ids: Collection[Any]) -> str:
    """How many they are: `1 image`, `2 images`."""
    return counted(len(ids), "image")
