"""Photos of several pages, as microscopes and scanners write them, and animations: the first page is the photo."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.photos import opened, pages
from semiseg_cli.core.errors import DataError, counted

SUFFIXES = (".tif", ".tiff", ".gif", ".webp")  # a telephone's JPEG holds further ones that nobody means


def told(images: Iterable[Path], on_all: Callable[[Callable[[Path], Any], list[Path]], Sequence[Any]]) -> list[str]:
    """A note on those of these photos that have several pages, with what makes a photo of each; none if there are none.

    on_all: does a work on many files. Files that cannot be read count nowhere.
    """
    asked = [path for path in images if path.suffix.lower() in SUFFIXES]
    found = [(path, count) for path, count in zip(asked, on_all(_pages, asked), strict=True) if count > 1]
    if not found:
        return []
    path, count = found[0]
    each = f"magick {shlex.quote(str(path))} {shlex.quote(f'{path.stem}-%03d.png')}"
    many = f"{counted(len(found), 'photo')} of several pages, of which the first alone is taken"
    return [f"{many}: {path} has {count}; a photo of each: {each}"]


def _pages(path: Path) -> int:
    try:
        with opened(path) as image:
            return pages(image)
    except DataError:
        return 1
