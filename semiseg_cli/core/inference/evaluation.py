"""The one evaluation: the training loop, `semiseg eval` and everything that shows predictions go through here.

The confusion matrix stays on the device until the last image is done. Grouping, batch size and the number of workers
or processes do not change the result (beyond the rounding of a convolution that sees another batch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from semiseg_cli.core.data.decode import decode_mask
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.inference.predictions import Array, load_image, predictions, save_predictions, size
from semiseg_cli.core.ops import boundary as edges
from semiseg_cli.core.ops import metrics


@dataclass(frozen=True)
class Evaluation:
    """Percentages over a whole set of images. A class absent from labels and predictions has None."""

    miou: float
    iou: dict[str, float | None]
    frequency: dict[str, float]  # share of the labeled pixels
    pixel_accuracy: float
    images: int
    boundary_f: float | None  # None: not asked for
    matrix_KK: Tensor  # int64 on the host, rows are the truth


def resolve_window(window: str, protocol: int) -> int:
    """`auto` (the dataset's protocol), `none` (whole images) or a side, in pixels; 0: whole images."""
    if window == "auto":
        return protocol
    if window == "none":
        return 0
    if not window.isdecimal() or int(window) < 32:
        raise UsageError(f"window '{window}' is not auto, none, or a side of 32 pixels or more", fix="--window 801")
    return int(window)


def in_bfloat16(amp: str, device: str | torch.device) -> bool:
    """Whether a run's networks are evaluated in bfloat16: on CUDA, unless its train.amp is off.

    Never on a CPU, where training may use it: a number must not depend on what the CPU at hand has.
    """
    return torch.device(device).type == "cuda" and amp != "off"


def evaluate(
    net: nn.Module,
    dataset: Dataset,
    records: Sequence[Record],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: str | torch.device,
    window: int = 0,
    stride: float = 2 / 3,
    batch: int = 8,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    boundary: bool = False,
    absent_as_zero: bool = False,
    amp: bool = False,
    workers: int = 0,
    progress: Callable[[int], object] | None = None,
    save: Path | None = None,
) -> Evaluation:
    """Measure a network on the records that have a mask; its training mode is as before afterwards.

    progress: called with the number of images just done. save: folder for the predictions, as index PNGs `<id>.png`.
    The rest is as in `predictions`. With several processes each measures its share and all get the whole result.
    Raises DataError when no record has a mask, and for a file that is unreadable, of another size, or has labels
    outside the classes.
    """
    labeled = [record for record in records if record.mask is not None]
    classes = len(dataset.classes)
    matrix_KK = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    scores_2K = torch.zeros(2, classes, dtype=torch.float64, device=device)  # sum of boundary F, number of images
    for part in predictions(
        net,
        _share(labeled),
        mean=mean,
        std=std,
        device=device,
        window=window,
        stride=stride,
        batch=batch,
        scales=scales,
        flip=flip,
        amp=amp,
        workers=workers,
        load=partial(load_labeled, classes=classes, ignore=dataset.ignore),
    ):
        assert part.truth_BHW is not None
        matrix_KK += metrics.confusion(part.label_BHW, part.truth_BHW, classes, dataset.ignore)
        if boundary:
            f_BK = edges.boundary_f(part.label_BHW, part.truth_BHW, classes, dataset.ignore)
            scores_2K += torch.stack([f_BK.nansum(0), (~f_BK.isnan()).sum(0)])
        if save is not None:
            save_predictions(part, save, dataset.palette)
        if progress is not None:
            progress(len(part.records))
    _all_reduce(matrix_KK)
    _all_reduce(scores_2K)
    if not matrix_KK.any():
        raise DataError(
            f"dataset {dataset.name} has nothing to evaluate on here",
            why=f"{len(labeled)} of {len(records)} images have a mask, and no pixel of them is labeled",
            fix="choose another --split, or prepare one with masks: semiseg prepare folder --val DIR --val-masks DIR",
        )
    ious, pixels = metrics.iou(matrix_KK, absent_as_zero), matrix_KK.sum(1).tolist()
    return Evaluation(
        miou=metrics.miou(matrix_KK, absent_as_zero),
        iou=dict(zip(dataset.classes, ious, strict=True)),
        frequency={name: 100.0 * n / sum(pixels) for name, n in zip(dataset.classes, pixels, strict=True)},
        pixel_accuracy=metrics.pixel_accuracy(matrix_KK),
        images=len(labeled),
        boundary_f=100.0 * (scores_2K[0] / scores_2K[1]).nanmean().item() if boundary else None,
        matrix_KK=matrix_KK.cpu(),
    )


def head_and_tail(iou: Mapping[str, float | None], frequency: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The more frequent half of the classes that have an IoU (one more if they are odd) and the rarer half.

    Each: its `classes`, the most frequent first, and their mean IoU as `miou`, None where there are none.
    """
    ranked = sorted((name for name, value in iou.items() if value is not None), key=lambda name: -frequency[name])
    middle = (len(ranked) + 1) // 2
    halves = {"head": ranked[:middle], "tail": ranked[middle:]}
    values = {half: [value for name in names if (value := iou[name]) is not None] for half, names in halves.items()}
    return {half: {"classes": halves[half], "miou": fmean(v) if v else None} for half, v in values.items()}


def load_labeled(record: Record, classes: int, ignore: int) -> tuple[Array, Array]:
    """Image and mask of a prepared record; DataError when they differ in size or a label is outside the classes."""
    image, _ = load_image(record)
    assert record.mask is not None
    mask = decode_mask(record.mask)
    if mask.shape != image.shape[:2]:
        raise DataError(
            f"mask {record.mask} is {size(mask)} pixels, its image {record.image} is {size(image)}",
            fix="replace the mask by one of the image's size, then prepare the dataset again",
        )
    if mask.max() >= classes:
        found = [int(value) for value in np.unique(mask) if value >= classes and value != ignore]
        if found:
            raise DataError(
                f"mask {record.mask} has the values {found}, but there are {classes} classes (0 to {classes - 1})",
                why=f"only {ignore} is ignored",
                fix=f"correct the mask, or map the value when preparing: --map {found[0]}={ignore}",
            )
    return image, mask


def _share(records: list[Record]) -> list[Record]:
    """What this process evaluates."""
    return records[dist.get_rank() :: dist.get_world_size()] if _distributed() else records


def _all_reduce(tensor: Tensor) -> None:
    if _distributed():
        dist.all_reduce(tensor)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
