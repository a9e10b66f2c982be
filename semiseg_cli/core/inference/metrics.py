"""What is measured of a network, each declared once: `eval`'s table and --json, the log and `semiseg runs` follow.

A metric is a function in `core/inference/measures.py` and an entry here. Importing this module does not import torch,
so that the command line can read names and titles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.registry import load_named
from semiseg_cli.core.settings import BadSetting

_HERE = "semiseg_cli.core.inference.measures"


@dataclass(frozen=True)
class Asked:
    """What somebody wants measured besides, and how classes count that are neither labeled nor predicted.

    As published numbers have it: absent_as_zero, 0 in the mIoU (absent from all images); absent_as_one, 1 in the
    boundary F-score (absent from an image). By default they count nowhere. Raises UsageError where nothing would count
    them.
    """

    boundary: bool = False
    absent_as_zero: bool = False
    absent_as_one: bool = False

    def __post_init__(self) -> None:
        if self.absent_as_one and not self.boundary:
            what = "--absent-as-one is of the boundary F-score, which is not asked for"
            raise UsageError(what, fix="--boundary --absent-as-one")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, in percent: one number, or one by class, which is a column of the table rather than a row.

    name:   its key in `--json`, in metrics.jsonl and in TensorBoard.
    title:  what the table calls it.
    counted, image: where its function is, `module:function`. `counted` makes it of what was counted over all images.
        `image` scores every class in a batch of images; the scores are averaged over the images, then over the
        classes. See `core/inference/measures.py` for what they are given.
    option: the field of `Asked` without which it is not measured; such a metric is not in the log.
    runs:   whether `semiseg runs` has a column for it, besides HEADLINE's; for a number that is in the log.
    """

    name: str
    title: str
    counted: str = ""
    image: str = ""
    by_class: bool = False
    option: str = ""
    runs: bool = False

    def wanted(self, asked: Asked) -> bool:
        return not self.option or bool(getattr(asked, self.option))

    @property
    def function(self) -> Any:
        return load_named({self.name: self.counted or self.image}, self.name, f"there is no metric '{self.name}'")


METRICS = (
    Metric(name="miou", title="mIoU", counted=f"{_HERE}:miou"),
    Metric(name="pixel_accuracy", title="pixel accuracy", counted=f"{_HERE}:pixel_accuracy"),
    Metric(name="boundary_f", title="boundary F-score", image=f"{_HERE}:boundary_f", option="boundary"),
    Metric(name="iou", title="IoU", counted=f"{_HERE}:iou", by_class=True),
)
NOTHING_MORE = Asked()
HEADLINE = METRICS[0]  # which `semiseg runs` always shows, and by which a run's best network is chosen, unless it says


def quality(row: Mapping[str, Any], best_by: str) -> float:
    """What an evaluation counts in choosing the best network by `train.best_by`: a percentage of its row in the log.

    That of a class which is neither labeled nor predicted is less than any other.
    """
    name, _, chosen = best_by.partition(":")
    value = row.get("boundary_f" if name == "boundary" else name)
    value = value.get(chosen) if isinstance(value, Mapping) else value
    return -math.inf if value is None else float(value)


def check_best_by(best_by: str, classes: Iterable[str]) -> None:
    """Raise BadSetting, with a name that is near, where `train.best_by` names no class."""
    name = best_by.partition("iou:")[2]
    if best_by.startswith("iou:") and name not in classes:
        allowed = f"miou, boundary, or iou: and a class, and {name!r} is none of this dataset"
        raise BadSetting("train.best_by", best_by, allowed, fix=did_you_mean(name, classes))
