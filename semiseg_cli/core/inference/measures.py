"""The functions behind `core/inference/metrics.py`, and the tally that feeds them while predictions come in.

A metric over counts is given `Counts` and returns a percentage, or one for each class. A metric over images is given
predictions and labels (B, H, W), the number of classes, the ignored value and what was asked, and returns a score in
[0, 1] of each class in each image, (B, K), NaN where a class has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from semiseg_cli.core.inference import boundary
from semiseg_cli.core.inference.metrics import METRICS, Asked, Metric
from semiseg_cli.core.ops import metrics

QUANTA = 2**43  # of a score of 1: integers add up to the same in any order; a million images fit


class Counts(NamedTuple):
    """All images together: pixels by class, rows are the truth (int64), and how they are to be read."""

    matrix_KK: Tensor
    asked: Asked


def miou(counts: Counts) -> float:
    return metrics.miou(counts.matrix_KK, counts.asked.absent_as_zero)


def iou(counts: Counts) -> list[float | None]:
    return metrics.iou(counts.matrix_KK, counts.asked.absent_as_zero)


def pixel_accuracy(counts: Counts) -> float:
    return metrics.pixel_accuracy(counts.matrix_KK)


def boundary_f(pred_BHW: Tensor, label_BHW: Tensor, classes: int, ignore: int, asked: Asked) -> Tensor:
    f_BK = boundary.boundary_f(pred_BHW, label_BHW, classes, ignore)
    return f_BK.nan_to_num(1.0) if asked.absent_as_one else f_BK


class Tally:
    """What is counted image by image, on the device until it is read; with several processes, of all of them."""

    def __init__(self, classes: Sequence[str], ignore: int, asked: Asked, device: torch.device) -> None:
        self.classes, self.ignore, self.asked = classes, ignore, asked
        self.metrics: list[tuple[Metric, Tensor]] = [  # sum (in QUANTA) and number of each class's scores, (2, K)
            (metric, torch.zeros(2, len(classes), dtype=torch.int64, device=device))
            for metric in METRICS
            if metric.wanted(asked)
        ]
        self.matrix_KK = torch.zeros(len(classes), len(classes), dtype=torch.int64, device=device)

    def add(self, pred_BHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Returns the mIoU of every image over its own classes in percent, (B,), NaN where nothing is labeled."""
        count = len(self.classes)
        pairs = zip(pred_BHW, label_BHW, strict=True)
        matrix_BKK = torch.stack([metrics.confusion(pred, label, count, self.ignore) for pred, label in pairs])
        self.matrix_KK += matrix_BKK.sum(0)
        for metric, scores_2K in self.metrics:
            if metric.image:
                score_BK = metric.function(pred_BHW, label_BHW, count, self.ignore, self.asked)
                quanta_BK = (score_BK.double() * QUANTA).round().nan_to_num(0.0).long()
                scores_2K += torch.stack([quanta_BK.sum(0), (~score_BK.isnan()).sum(0)])
        return metrics.miou_of_each(matrix_BKK)

    def all_reduce(self) -> None:
        """Add up what several processes have counted."""
        if dist.is_available() and dist.is_initialized():
            for tensor in (self.matrix_KK, *(scores_2K for _, scores_2K in self.metrics)):
                dist.all_reduce(tensor)

    def read(self) -> tuple[dict[str, float], dict[str, dict[str, float | None]]]:
        """What was measured, by name: percentages, and those by class. The matrix must not be empty."""
        numbers, by_class = dict[str, float](), dict[str, dict[str, float | None]]()
        for metric, scores_2K in self.metrics:
            found = self._counted(metric) if metric.counted else _averaged(scores_2K, metric.by_class)
            if metric.by_class:
                by_class[metric.name] = dict(zip(self.classes, found, strict=True))
            else:
                numbers[metric.name] = found
        return numbers, by_class

    def _counted(self, metric: Metric) -> Any:
        return metric.function(Counts(self.matrix_KK, self.asked))


def _averaged(scores_2K: Tensor, by_class: bool) -> Any:
    """Mean score of each class over the images that have one, or the mean of these, in percent."""
    means = [100.0 * total / (QUANTA * count) if count else None for total, count in scores_2K.T.tolist()]
    return means if by_class else fmean(mean for mean in means if mean is not None)
