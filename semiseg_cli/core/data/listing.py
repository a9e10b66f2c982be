"""The image files below somebody's folders, and what else lies there, by kind: nothing is passed over in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import features

from semiseg_cli.core.errors import DataError

HEIF = frozenset({".heic", ".heif", ".hif"})  # of telephones; pillow-heif reads them
AVIF = frozenset({".avif"})
ALWAYS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"}
)
KINDS = {
    "HEIC": HEIF,
    "AVIF": AVIF,
    "video": {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".3gp"},
    "camera raw": {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"},
    "JPEG 2000": {".jp2", ".j2k", ".jpf", ".jpx"},
}
PREDICTED = ("overlays", "legend.png")  # of what `predict` writes: labels and tinted copies are no photos
REMEDIES = {
    "HEIC": "pip install pillow-heif",
    "AVIF": "pip install -U pillow",
    "video": "ffmpeg -i FILE -r 1 frame-%05d.png",
}


@cache
def suffixes() -> frozenset[str]:
    """Of the image files that can be read here."""
    avif = AVIF if features.check("avif") or find_spec("pillow_heif") else frozenset()
    return ALWAYS | avif | (HEIF if find_spec("pillow_heif") else frozenset())


@dataclass
class Listing:
    """Image files below a folder, sorted, and how many other things lie there, by kind."""

    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def look_below(folder: Path, without: Collection[Path] = ()) -> Listing:
    """Everything below a folder, linked folders included, each once; hidden ones are not looked at, nor predictions.

    without: folders that are left alone, resolved. Raises DataError for a folder that may not be read.
    """
    found, seen = Listing(), {leads_to(folder)}
    for place, below, names in os.walk(folder, onerror=_refuse, followlinks=True):
        kept = list[str]()
        for name in sorted(below):
            target = leads_to(Path(place, name))
            if name[0] == "." or target in without:
                continue
            if os.path.isfile(os.path.join(target, *PREDICTED)):
                found.others["folder of predictions"] += 1
                continue
            if target in seen:  # a link into its own folders, or a second one to the same
                found.others["link to a folder that is there already"] += 1
                continue
            seen.add(target)
            kept.append(name)
        below[:] = kept
        for name in sorted(names):
            if name[0] == ".":
                continue
            path = Path(place, name)
            if not os.path.isfile(path):
                found.others["broken link" if path.is_symlink() else "special file"] += 1
            elif path.suffix.lower() in suffixes():
                found.files.append(path)
            else:
                found.others[kind_of(name)] += 1
    return found


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read", why=error.strerror or str(error)) from error


def leads_to(path: Path) -> Path:
    """The absolute path without links; of links in a circle, which `Path.resolve` raises for, one of them."""
    return Path(os.path.realpath(path))


def kind_of(name: str) -> str:
    """What a file is that is no image here: by its name's ending."""
    suffix = Path(name).suffix.lower()
    return next((kind for kind, known in KINDS.items() if suffix in known), suffix or "without a suffix")


def left_out(folder: Path, others: Iterable[tuple[str, int]]) -> str:
    """A line on what is no image in a folder, the most frequent kinds first, with what would help; empty for none."""
    counted = sorted(others, key=lambda each: (-each[1], each[0]))
    parts = [f"{count} {kind}{f' ({REMEDIES[kind]})' if kind in REMEDIES else ''}" for kind, count in counted]
    return f"not read in {folder}: {', '.join(parts)}" if parts else ""
