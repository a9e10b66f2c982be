"""What `dataset.toml` says of a dataset: every entry that is read of one of any kind, once.

What a dataset of somebody's own folders tells besides is described where it is read: `core/sources/folder.py` and
`core/sources/earlier.py`.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from semiseg_cli.core.reading import Level, Side
from semiseg_cli.core.settings import Natural


class Source(TypedDict, total=False):
    """`[source]`: what it was made of; each kind has entries of its own (`KINDS`)."""

    long_side: Side
    more: list[str]  # folders of photos without a mask that were added, in their order


class Asked(TypedDict, total=False):
    """What `semiseg shard` was told, which makes the same shards again."""

    made_of: str
    size: float  # megabytes
    url: str


class Shards(Asked):
    """`[shards]`: photos in each but the last, and how many there are."""

    photos: Natural
    count: NotRequired[Natural]


class Made(TypedDict, total=False):
    """What tells how it was made; all that is needed of one that is damaged."""

    kind: str
    classes_file: str
    source: Source
    shards: Asked


class Manifest(TypedDict):
    """What a dataset needs to be opened."""

    schema: int
    kind: str
    classes: list[str]
    palette: list[tuple[Level, Level, Level]]
    ignore: Level
    licence: str
    window: Side
    levels: NotRequired[tuple[int, int]]
    source: NotRequired[Source]
    shards: NotRequired[Shards]
    notes: NotRequired[list[str]]
    counts: NotRequired[dict[str, int]]
