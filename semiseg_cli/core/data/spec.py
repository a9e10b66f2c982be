"""What a prepared dataset is: classes, palette, and one record per image. Knows files, never networks.

On disk (read and written by `index.py`):
    <root>/<name>/dataset.toml   name, kind, classes, palette, ignore, licence, counts, fingerprints, where it came from
    <root>/<name>/index.tsv      one line per image: id, part, image, mask, height, width, pixels of every class, and of
                                 one that was left in its place, or is in a shard, the bytes of its file
    <root>/<name>/index.safetensors   where its lines are (`indexing.py`); made anew where it is not there
    <root>/<name>/splits/<partition>/labeled.txt, unlabeled.txt (image ids); a published one as <protocol>/<name>
`part` is train or val; `mask` and `pixels` are `-` for an image without a mask. Paths are relative to the dataset's
folder, begin with `../` for files elsewhere below the data root, or are absolute. In a shard they go on with the place
of the photo (`shards.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from semiseg_cli.core.data.view import Records

IGNORE = 255  # label of pixels that count nowhere


@dataclass(frozen=True, slots=True)
class Record:
    """One image: its id (unique in the dataset), files, size in pixels after decoding, and pixels of every class.

    bytes: of the image's file when it was indexed, where that is somebody's own and may change; else 0.
    `pixels` has one count per class for an image with a mask (pixels that are ignored count nowhere) and is empty
    where there is no mask, or where nobody has counted.
    """

    id: str
    image: Path
    mask: Path | None
    height: int
    width: int
    pixels: tuple[int, ...] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset. `train` holds labeled (mask set) and unlabeled (mask None) records, `val` labeled ones."""

    name: str
    kind: str  # shapes | folder | voc | cityscapes
    root: Path  # the dataset's own folder, <data root>/<name>
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    train: Sequence[Record]
    val: Sequence[Record]
    ignore: int = IGNORE
    licence: str = ""
    window: int = 0  # side of the evaluation window in this dataset's protocol; 0: whole images
    long_side: int = 0  # larger images were reduced to this many pixels when prepared, or are when shown; 0: none is
    block: int = 0  # photos in each of its shards; 0: they are files
    levels: tuple[int, int] = (0, 65535)  # what became 0 and 255 of photos with 16 bits a channel (`depths.py`)

    @cached_property
    def training(self) -> Records:
        """`train`, of which parts can be taken without reading it."""
        return Records.of(self.train)

    @property
    def labeled(self) -> Records:
        """The training images that have a mask."""
        return self.training.masked

    @property
    def pool(self) -> Records:
        """Those that have none."""
        return self.training.unmasked

    def shown(self, long_side: int) -> Dataset:
        """The dataset, of which larger images are shown reduced to a long side of so many pixels; 0: as they are."""
        sides = [side for side in (long_side, self.long_side) if side]
        return replace(self, long_side=min(sides, default=0))


@dataclass(frozen=True)
class Partition:
    """Which training images are labeled and which are not; an unlabeled record's mask is always None."""

    name: str  # what reports print: "own partition, seed 0, 23 of 367" or "classic 183, the set of UniMatch, ..."
    labeled: Sequence[Record]
    unlabeled: Sequence[Record]
    fingerprint: str  # sha256 of the sorted unique image stems of `labeled`, joined by newline
    protocol: str = ""  # classic, blender ...: results of two protocols do not compare; empty where none is followed
    hint: str = ""  # a line for the user, such as that a published list was meant and is not at hand
