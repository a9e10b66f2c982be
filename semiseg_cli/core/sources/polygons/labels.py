"""What annotations call what: pixels in no shape, pixels that count nowhere, and colours of classes."""

from __future__ import annotations

from collections.abc import Sequence

_BACKGROUND = ("background", "bg")
_IGNORED = ("ignore", "ignored", "void", "dontcare")


def background_of(names: Sequence[str]) -> int | None:
    """The class that pixels in no shape belong to, told by its name; None where there is none."""
    return next((index for index, name in enumerate(names) if _plain(name) in _BACKGROUND), None)


def counts_nowhere(name: str) -> bool:
    """Whether a label by this name says that its pixels count nowhere (LabelMe's is `__ignore__`)."""
    return _plain(name) in _IGNORED


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def hex_colour(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
