"""Intersection over union and pixel accuracy from a confusion matrix that stays on the device until it is read."""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor


def confusion(pred_BHW: Tensor, label_BHW: Tensor, classes: int, ignore: int = 255) -> Tensor:
    """Counts of pixels as a KxK int64 tensor on the device of the inputs: rows are the truth, columns the prediction.

    Both inputs hold integers of any dtype: predictions in [0, K), labels in [0, K) or `ignore`, which counts nowhere.
    Ignored pixels go to one more bin: selecting the others would need their number on the host.
    """
    narrow = torch.int16 if classes**2 < 2**15 else torch.int64  # a quarter of the memory traffic
    cell = label_BHW.to(narrow) * classes + pred_BHW.to(narrow)
    cell = torch.where(label_BHW == ignore, classes**2, cell).flatten()
    if cell.is_cuda:  # bincount on CUDA waits for the largest value, whatever minlength says
        index = cell.long()
        bins = index.new_zeros(classes**2 + 1).scatter_add_(0, index, torch.ones_like(index))
    else:
        bins = torch.bincount(cell, minlength=classes**2 + 1)
    return bins[:-1].view(classes, classes)


def iou(matrix_KK: Tensor, absent_as_zero: bool = False) -> list[float | None]:
    """Intersection over union of each class in percent.

    A class absent from labels and predictions has none: None, or 0.0 with `absent_as_zero` (the field's code).
    """
    counts = matrix_KK.cpu()
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    absent = 0.0 if absent_as_zero else None
    return [100.0 * h / u if u else absent for h, u in zip(hits.tolist(), union.tolist(), strict=True)]


def miou(matrix_KK: Tensor, absent_as_zero: bool = False) -> float:
    """Mean of `iou` over the classes that have one, in percent. The matrix must not be empty."""
    return fmean(value for value in iou(matrix_KK, absent_as_zero) if value is not None)


def miou_of_each(matrix_BKK: Tensor) -> Tensor:
    """`miou` of each of several matrices, (B,) float64 on their device; NaN where one is empty."""
    counts = matrix_BKK.double()
    hits_BK = counts.diagonal(dim1=1, dim2=2)
    union_BK = counts.sum(1) + counts.sum(2) - hits_BK
    return 100.0 * (hits_BK / union_BK).nanmean(1)  # 0 / 0 is NaN: a class that is not there


def pixel_accuracy(matrix_KK: Tensor) -> float:
    """Share of labeled pixels that are right, in percent. The matrix must not be empty."""
    counts = matrix_KK.cpu()
    return float(100.0 * counts.diagonal().sum().item() / counts.sum().item())
