"""The masks of a folder before any is copied: each is looked at once, and then it is decided how all are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.drawn import Turned, turned, turns
from semiseg_cli.core.sources.meaning import Meaning, decide
from semiseg_cli.core.sources.survey import Seen, look
from semiseg_cli.core.sources.told import NEAREST, Told, tabulate


@dataclass(frozen=True)
class Look:
    """What a mask holds, and how it may be turned against its photo."""

    seen: Seen
    turned: Turned | None


@dataclass(frozen=True)
class Masks:
    """How the masks are read: what they mean, and the EXIF orientation by which some are turned. notes: what to say.

    meaning: None where some cannot be read, so that only what is wrong is looked for. lossy: as in `takes_lossy`.
    """

    meaning: Meaning | None
    turns: Mapping[Path, int]
    notes: tuple[str, ...]
    lossy: bool = False


def takes_lossy(classes: Classes, told: Told) -> bool:
    """Whether masks that were smeared, as JPEG does, are taken: where somebody asks for the nearest known colour."""
    return told.unknown == NEAREST and tabulate(classes, told).has_colours


def look_at(photo: Path, mask: Path, lossy: bool = False) -> Look | None:
    """What there is to know of a mask; None where it cannot be read, which is told when it is copied."""
    try:
        seen = look(mask, lossy)
    except DataError:
        return None
    return Look(seen, turned(photo, seen))


def agree(looks: Sequence[Look], classes: Classes, told: Told) -> Masks:
    """How all these masks are read. Raises what `meaning.decide` and `drawn.turns` raise."""
    seen = [each.seen for each in looks]
    meaning = decide(seen, classes, told)
    by_exif, notes = turns([each.turned for each in looks if each.turned], told.orientation)
    return Masks(meaning, by_exif, (meaning.said, *notes), takes_lossy(classes, told))
