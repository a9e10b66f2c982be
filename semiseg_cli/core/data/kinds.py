"""The kinds of datasets that `semiseg prepare <kind>` makes: all that the rest of the house knows of one by its name.

A new benchmark is a line in KINDS, its command (a function of its name in `cli/prepare_benchmarks.py`) and the files
that this needs. Importing this imports nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """A part of a benchmark that may be lacking: `entry` of its `source` is then empty or `none`."""

    entry: str
    words: tuple[str, ...]  # of the command that brings it
    told: str  # what to say, with the command as {line}


@dataclass(frozen=True)
class Kind:
    """How a dataset is prepared again, told from `source` in its `dataset.toml`, and what is known of its like."""

    title: str
    places: Mapping[str, str] = field(default_factory=dict)  # option: path in `source`; KEY/..: around it
    numbers: tuple[str, ...] = ()  # entries of `source` that are options of the same name
    options: Mapping[str, str] = field(default_factory=dict)  # option: entry in `source`, where it is not as usual
    words: tuple[str, ...] = ()  # further words that `prepare` needs
    benchmark: bool = False  # published: nobody adds images to it; `--source DIR` brings back what was moved
    around: bool = False  # found where it lies around somebody, without `--source`
    lacking: Part | None = None
    labels: str = "1/8"  # as few labels as the field begins with, for `train --labeled`, where there are as many


KINDS: dict[str, Kind] = {
    "voc": Kind(
        title="PASCAL VOC 2012",
        places={"--source": "devkit", "--sbd": "sbd"},
        benchmark=True,
        around=True,
        lacking=Part("sbd", ("--download",), "SBD's labels make it whole: {line} (1.4 GB), or --sbd DIR|FILE"),
        labels="183",
    ),
    "cityscapes": Kind(title="Cityscapes", places={"--source": "images/.."}, benchmark=True, around=True),
    "shapes": Kind(title="drawn shapes", numbers=("seed", "labeled", "unlabeled", "val", "size")),
    "folder": Kind(
        title="your own images",
        places={
            "--labeled": "labeled", "--masks": "masks", "--unlabeled": "unlabeled", "--val": "val",
            "--val-masks": "val_masks",
        },
        options={
            "--map": "map", "--ignore": "ignore", "--first": "first", "--unknown": "unknown",
            "--mask-reading": "reading", "--mask-orientation": "orientation", "--long-side": "long_side",
            "--levels": "levels", "--in-place": "in_place", "--shards": "shards",
        },
        words=("--classes", "FILE"),
    ),
}  # fmt: skip
USUAL = "voc"  # what is meant where several datasets are prepared and none is named


def benchmarks() -> list[str]:
    """The published kinds, the best known first."""
    return [name for name, kind in KINDS.items() if kind.benchmark]


def lacks(kind: str, source: Mapping[str, object]) -> bool:
    """Whether a dataset of this kind, made of `source`, is without a part that it could have."""
    part = KINDS[kind].lacking if kind in KINDS else None
    return part is not None and source.get(part.entry) in ("", "none")
