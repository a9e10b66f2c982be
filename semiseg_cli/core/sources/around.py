"""What lies where somebody stands: folders and archives in the working directory, below it and beside it.

They are told by names alone, the nearest first. The search is never deep, and ends after so many folders, so that it
takes no time in a home directory or on a disk that is far away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

BELOW, BESIDE = 4, 3  # levels searched below a folder, and below the folder around it
MOST = 3000  # folders that are read
SKIPPED = {"proc", "sys", "dev", "unpacked", "node_modules", "site-packages", "__pycache__"}


@dataclass(frozen=True)
class Sought:
    """What is looked for: a folder, by its path and the names in it, and an archive, by its name."""

    folder: Callable[[Path, AbstractSet[str]], bool]
    archive: re.Pattern[str]


@dataclass(frozen=True)
class Seen:
    """What was found, the nearest first."""

    folders: tuple[Path, ...] = ()
    archives: tuple[Path, ...] = ()

    def but(self, taken: Path) -> list[Path]:
        """All but what was taken, and what lies in it or around it."""
        whole = Path(os.path.abspath(taken))
        others = [(path, Path(os.path.abspath(path))) for path in (*self.folders, *self.archives)]
        return [path for path, place in others if not (place.is_relative_to(whole) or whole.is_relative_to(place))]


def look_around(here: Path, sought: Sought, *beside: Path) -> Seen:
    """What there is in `here`, below and beside it. beside: further folders that are searched first, a level deep."""
    folders, archives, known = list[Path](), list[Path](), set[str]()
    for folder, names in _folders(here, beside):
        if sought.folder(folder, names) and _new(folder, known):
            folders.append(folder)
        packed = (folder / name for name in sorted(names) if sought.archive.fullmatch(name))
        archives += [path for path in packed if path.is_file() and _new(path, known)]
    return Seen(tuple(folders), tuple(archives))


def _new(path: Path, known: set[str]) -> bool:
    """Whether a path, as links lead to it, is met for the first time."""
    real = os.path.realpath(path)
    new = real not in known
    known.add(real)
    return new


def _folders(here: Path, beside: tuple[Path, ...]) -> Iterator[tuple[Path, set[str]]]:
    """Folders with the names in them, breadth first; neither hidden ones nor prepared datasets and runs."""
    left = MOST
    levels = [*((folder, 1) for folder in beside), (here, BELOW), (_parent(here), BESIDE)]
    for start, depth in levels:
        wave = [start]
        for _ in range(depth + 1):
            below = []
            for folder in wave:
                left -= 1
                names, children = _read(folder) if left >= 0 else (set(), [])
                if names and not ({"dataset.toml", "config.toml"} & names):
                    yield folder, names
                    below += children
            wave = below


def _parent(here: Path) -> Path:
    """The folder around `here`, as seen from it."""
    return here / ".." if here == Path() else here.parent


def _read(folder: Path) -> tuple[set[str], list[Path]]:
    """The names in a folder, and the folders among them that are searched; nothing where it may not be read."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return set(), []
    below = [folder / name for name, is_dir in sorted(found) if is_dir and name[0] != "." and name not in SKIPPED]
    return {name for name, _ in found}, below
