"""The one evaluation: the training loop, `semiseg eval` and everything that shows predictions go through here.

The confusion matrix stays on the device until the last image is done. Grouping, batch size and the number of workers
or processes do not change the result (beyond the rounding of a convolution that sees another batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.data.again import adding
from semiseg_cli.core.data.decode import decode_mask
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.measures import Tally
from semiseg_cli.core.inference.metrics import HEADLINE, NOTHING_MORE, Asked
from semiseg_cli.core.inference.predictions import Array, load_image, predictions, save_predictions
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.ops.processes import anywhere, summed


class BrokenOff(Exception):
    """An evaluation that ended before all images were measured, because somebody asked for it."""


@dataclass(frozen=True)
class Evaluation:
    """Percentages over a whole set of images. A class absent from labels and predictions has None."""

    values: Mapping[str, float]  # of every metric that was measured, by name
    by_class: Mapping[str, Mapping[str, float | None]]  # of those that are measured by class
    frequency: dict[str, float]  # share of the labeled pixels
    images: int
    matrix_KK: Tensor  # int64 on the host, rows are the truth
    image_miou: Mapping[str, float]  # over an image's own classes, by id; of those with a labeled pixel

    @property
    def miou(self) -> float:
        return self.values[HEADLINE.name]

    @property
    def metrics(self) -> dict[str, Any]:
        """Every metric by its name, as the log and `--json` have it."""
        return {**self.values, **self.by_class}

    def of(self, dataset: Dataset, step: int) -> dict[str, Any]:
        """What a run keeps of its last evaluation besides the metrics, for its report: plain values."""
        return {
            "step": step,
            "classes": list(dataset.classes),
            "palette": [list(colour) for colour in dataset.palette],
            "frequency": list(self.frequency.values()),
            "confusion": self.matrix_KK.tolist(),
            "images": dict(self.image_miou),
        }


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    records: Sequence[Record],
    *,
    asked: Asked = NOTHING_MORE,
    workers: int = 0,
    progress: Callable[[int], object] | None = None,
    save: Path | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Measure a network on the records that have a mask; its training mode is as before afterwards.

    asked: what is measured besides, and how absent classes count. workers: processes that decode.
    progress: called with the number of images just done. save: folder for the predictions, as index PNGs `<id>.png`.
    With several processes each measures its share and all get the whole result, the same to the bit. stopping: asked
    before every forward; where it is true in one of the processes, all raise BrokenOff.
    Raises DataError when no record has a mask, and for a file that is unreadable, of another size, or has labels
    outside the classes.
    """
    labeled = [record for record in records if record.mask is not None]
    tally = Tally(dataset.classes, dataset.ignore, asked, predictor.device)
    load = partial(load_labeled, classes=len(dataset.classes), ignore=dataset.ignore)
    places = {record.id: place for place, record in enumerate(labeled)}
    miou_N = torch.zeros(len(labeled), dtype=torch.float64, device=predictor.device)
    broken, hook = False, predictor.net.register_forward_pre_hook(partial(_unless, stopping))
    try:
        for part in predictions(predictor, labeled, workers=workers, load=load, shared=True):
            assert part.truth_BHW is not None
            index = torch.tensor([places[record.id] for record in part.records])
            miou_N[index.to(miou_N.device, non_blocking=True)] = tally.add(part.label_BHW, part.truth_BHW)
            if save is not None:
                save_predictions(part, save, dataset.palette)
            if progress is not None:
                progress(len(part.records))
    except BrokenOff:
        broken = True
    finally:
        hook.remove()
    if anywhere(broken, predictor.device):
        raise BrokenOff
    tally.all_reduce()
    miou_N = summed(miou_N)  # the images of other processes are zeros here
    pixels = tally.matrix_KK.sum(1).tolist()
    if not any(pixels):
        raise DataError(
            f"dataset {dataset.name} has nothing to evaluate on here",
            why=f"{len(labeled)} of {len(records)} images have a mask, and no pixel of them is labeled",
            fix=f"{adding(dataset, '--val', 'DIR', '--val-masks', 'DIR')}another --split",
        )
    frequency = {name: 100.0 * n / sum(pixels) for name, n in zip(dataset.classes, pixels, strict=True)}
    each = {id: miou for id, miou in zip(places, miou_N.tolist(), strict=True) if not math.isnan(miou)}
    return Evaluation(*tally.read(), frequency, len(labeled), tally.matrix_KK.cpu(), each)


def _unless(stopping: Callable[[], bool], *_: object) -> None:
    """Before a forward, of which an image may take many."""
    if stopping():
        raise BrokenOff


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
    mask = decode_mask(record.mask, (record.height, record.width))
    if mask.max() >= classes:
        found = [int(value) for value in np.unique(mask) if value >= classes and value != ignore]
        if found:
            raise DataError(
                f"mask {record.mask} has the values {found}, but there are {classes} classes (0 to {classes - 1})",
                why=f"only {ignore} is ignored",
                fix=f"correct the mask, or map the value when preparing: --map {found[0]}={ignore}",
            )
    return image, mask
