"""Text in whatever script: by Pillow's own font, else by one of the machine's that has the letters.

What no font has is drawn as "?", never as the empty box of a missing letter; `lacks` tells.
"""

from __future__ import annotations

import itertools
import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

OWN = ""  # in place of a font's file: Pillow's
NOBODYS = "\U0010ffff"  # is no character, so that every font draws what it draws for one that it lacks
MOST = 1000  # files that are looked at
PLAIN = ("bold", "italic", "oblique", "mono", "serif", "thin", "light", "black", "condensed", "narrow")  # is not
ATTACHED = ("Zs", "Mn", "Mc", "Me", "Cf")  # kinds of letters that stand with what is before them, such as accents
DRAWN = (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF)  # scripts whose letters change with their neighbours


def lacks(text: str) -> bool:
    """Whether a letter of it is one that no font here has."""
    return any(file is None for file, _ in _parts(text))


def width_of(text: str, size: int) -> float:
    """In pixels, as `write` draws it."""
    return sum(_opened(file or OWN, size).getlength(part) for file, part in _drawn(text))


def write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: Colour, width: float) -> None:
    """Text in one line, its top left at `at`; what is wider than `width` is cut in its middle."""
    own, x = _opened(OWN, size), float(at[0])
    base = at[1] + (own.getmetrics()[0] if isinstance(own, ImageFont.FreeTypeFont) else 0)
    for file, part in _drawn(cut(text, size, width)):
        font = _opened(file or OWN, size)
        if isinstance(font, ImageFont.FreeTypeFont):
            pen.text((x, base), part, colour, font, anchor="ls")
        else:
            pen.text((x, at[1]), part, colour, font)
        x += font.getlength(part)


def cut(text: str, size: int, width: float) -> str:
    """The text itself, or with its middle left out, so that it has room; three letters in any case."""
    if width_of(text, size) <= width:
        return text
    few, many = 3, max(len(text) - 1, 3)
    while few < many:  # the largest number of letters that fits
        count = (few + many + 1) // 2
        few, many = (count, many) if width_of(_shortened(text, count), size) <= width else (few, count - 1)
    return _shortened(text, few)


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Lines of whole words, each no wider than `width` unless it is one word."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shortened(text: str, count: int) -> str:
    return f"{text[: count // 2]}...{text[len(text) - (count - count // 2) :]}"


def _drawn(text: str) -> list[tuple[str | None, str]]:
    return [
        (file, part if file is not None else "".join(letter if letter == " " else "?" for letter in part))
        for file, part in _parts(text)
    ]


@lru_cache(4096)
def _parts(text: str) -> tuple[tuple[str | None, str], ...]:
    """The text in parts of one font each, by its file; None for what none has. One font for all, if it can be."""
    letters = [letter for letter in text if unicodedata.category(letter) not in ATTACHED]
    whole = next((file for file in _files() if all(_has(file, letter) for letter in letters)), None)
    if whole is not None or not text:
        return ((whole, text),)
    parts = list[tuple[str | None, str]]()
    for letter in text:
        before = parts[-1][0] if parts else OWN
        if unicodedata.category(letter) in ATTACHED or (before is not None and _has(before, letter)):
            file = before
        else:
            file = next((each for each in _files() if _has(each, letter)), None) if _possible(letter) else None
        if parts and file == before:
            parts[-1] = file, parts[-1][1] + letter
        else:
            parts.append((file, letter))
    return tuple(parts)


def _possible(letter: str) -> bool:
    """Whether it is a letter at all, and can be drawn as it is written: some scripts need a library for that."""
    if unicodedata.category(letter) in ("Cc", "Cs", "Cn", "Co"):
        return False
    shaped = unicodedata.bidirectional(letter) in ("R", "AL") or any(a <= ord(letter) <= b for a, b in DRAWN)
    return not shaped or _shapes()


@lru_cache(1)
def _shapes() -> bool:
    return bool(features.check("raqm") and features.check("fribidi"))


@lru_cache(8192)
def _has(file: str, letter: str) -> bool:
    if not _possible(letter):
        return False
    try:
        font = _opened(file, 16)
        mask, none = font.getmask(letter), font.getmask(NOBODYS)
    except (OSError, ValueError, UnicodeEncodeError):  # no font, or one of fixed sizes
        return False
    return mask.size != (0, 0) and (mask.size != none.size or bytes(mask) != bytes(none))


@lru_cache(256)
def _opened(file: str, size: int) -> Font:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@lru_cache(1)
def _files() -> tuple[str, ...]:
    """Pillow's font, then those of the machine, plain ones without serifs first."""
    found = itertools.islice((path for folder in folders() for path in _below(folder)), MOST)
    return OWN, *map(str, sorted(found, key=_rank))


def _below(folder: Path) -> Iterator[Path]:
    for above, _, names in os.walk(folder):
        yield from (Path(above, name) for name in names if name.lower().endswith((".ttf", ".otf", ".ttc")))


def _rank(path: Path) -> tuple[int, bool, str]:
    name = path.stem.lower()
    return sum(word in name for word in PLAIN), "sans" not in name, str(path)


def folders() -> list[Path]:
    """Where this system and its user keep fonts."""
    home = Path.home()
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home / "AppData/Local"))
        return [Path(local, "Microsoft/Windows/Fonts"), Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts")]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [home / ".fonts", home / ".local/share/fonts", *(Path(each, "fonts") for each in shared.split(":") if each)]
