"""How masks of turned photos were drawn: on the pixels as stored, or on the photo as programs show it.

The size of a mask proves it for a photo that is turned by a quarter and is no square; the others go with these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg_cli.core.data.imaging import orientation
from semiseg_cli.core.data.photos import opened
from semiseg_cli.core.errors import DataError, counted, few
from semiseg_cli.core.sources.survey import Seen

STORED, UPRIGHT = "stored", "upright"


@dataclass(frozen=True)
class Turned:
    """A mask whose photo, or who itself, has an EXIF orientation that is not upright.

    upright: (height, width) of the photo as it is shown. own: the orientation is the mask's own.
    """

    mask: Path
    exif: int
    shape: tuple[int, int]
    upright: tuple[int, int]
    own: bool

    @property
    def proof(self) -> str:
        """How the mask was drawn, where its size proves it."""
        if self.exif < 5 or self.upright[0] == self.upright[1] or self.shape not in (self.upright, self.upright[::-1]):
            return ""
        return UPRIGHT if self.shape == self.upright else STORED


def turned(photo: Path, seen: Seen) -> Turned | None:
    """The mask of a photo if one of them is not upright as stored; None else, and for a photo that is unreadable."""
    try:
        exif = orientation(photo)
        if exif == seen.exif == 1:
            return None
        with opened(photo) as image:
            width, height = image.size
            shown = image.format == "TIFF"  # Pillow has turned it
    except DataError:
        return None
    upright = (height, width) if exif < 5 or shown else (width, height)
    return Turned(seen.path, seen.exif if seen.exif > 1 else exif, seen.shape, upright, seen.exif > 1)


def turns(masks: Sequence[Turned], asked: str) -> tuple[Mapping[Path, int], list[str]]:
    """The EXIF orientation by which each mask is to be turned, of those that are; and what was assumed, in words.

    asked: `STORED` or `UPRIGHT` for the masks whose size proves nothing; "": as those whose size does, else upright as
    programs show them. Raises DataError where some prove one and some the other, and yet others nothing.
    """
    result, notes = dict[Path, int](), list[str]()
    for own in (False, True):
        group = [mask for mask in masks if mask.own == own]
        open_ = [mask for mask in group if not mask.proof]
        proofs = {mask.proof: mask for mask in group if mask.proof}
        if len(proofs) == 2 and open_ and not asked:
            raise DataError(
                f"{counted(len(open_), 'mask')} of turned photos may be drawn on the stored or on the upright pixels",
                why=f"by its size {proofs[STORED].mask} is drawn on the stored ones, {proofs[UPRIGHT].mask} on the "
                f"upright ones; it tells nothing of {few([mask.mask for mask in open_])}",
                fix="--mask-orientation upright if they are as photo programs show the photos, else stored",
            )
        usual = STORED if own else UPRIGHT
        drawn = asked or next(iter(proofs), usual)
        result |= {mask.mask: mask.exif for mask in group if (mask.proof or drawn) == STORED}
        if asked and open_ and proofs and asked not in proofs:
            notes.append(
                f"--mask-orientation {asked} is against the size of {counted(len(group) - len(open_), 'mask')}, "
                f"such as {next(iter(proofs.values())).mask}, which are read as their size proves"
            )
        notes += _said(open_, drawn, len(group) - len(open_), asked, own) if group else []
    return result, notes


def _said(open_: Sequence[Turned], drawn: str, proven: int, asked: str, own: bool) -> list[str]:
    """What was assumed of a group of masks; nothing where the size of each proves it."""
    if not open_:
        return []
    count, other = len(open_), UPRIGHT if drawn == STORED else STORED
    what = "with an EXIF orientation of their own" if own else "of photos that EXIF turns"
    which = f"{counted(count, 'mask')} {what}"
    how = {UPRIGHT: "the photo as it is shown", STORED: "the stored pixels"}[drawn]
    if asked:
        why = "as --mask-orientation says"
    elif proven:
        why = f"as the size of {counted(proven, 'other')} proves; else --mask-orientation {other}"
    else:
        why = f"which no size proves, so look at one; else --mask-orientation {other}"
    return [f"{which} ({few([mask.mask.name for mask in open_], 3)}) taken as drawn on {how}, {why}"]
