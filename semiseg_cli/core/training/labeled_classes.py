"""How much of every class is labeled, and what that weighs in the labeled loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.data.again import adding
from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.errors import DataError, did_you_mean
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.partitions.splits import class_pixels, nothing_known
from semiseg_cli.core.settings import FREQUENCY, BadSetting, Config, weights_by_name


def known_classes(
    config: Config, dataset: Dataset, partition: Partition, note: Callable[[str], None]
) -> list[float]:
    """Share of every class among the labeled pixels. Raises DataError where there is nothing to learn from."""
    if "unlabeled" in load_method(config.method_name).inputs(config.method) and not partition.unlabeled:
        raise DataError(
            f"{config.method_name} needs unlabeled images, and {dataset.name} has none beside the labeled ones",
            fix=f"{adding(dataset, '--unlabeled', 'DIR')}fewer labels (--labeled N), or --method supervised",
        )
    frequencies = class_frequencies(partition.labeled, len(dataset.classes))
    absent = [name for name, share in zip(dataset.classes, frequencies, strict=True) if not share]
    if len(absent) == len(dataset.classes):
        raise nothing_known(len(partition.labeled))
    if absent:
        note(f"no labeled pixel of: {', '.join(absent)} (they cannot be learned from this partition)")
    return frequencies


def class_frequencies(records: Sequence[Record], classes: int) -> list[float]:
    """Share of every class among the labeled pixels of some records."""
    counts = np.zeros(classes, np.int64)
    for record in records:
        counts += np.array(class_pixels(record, classes))
    shares: list[float] = (counts / max(int(counts.sum()), 1)).tolist()
    return shares


def class_weights(
    frequencies: Sequence[float], kind: str, device: torch.device | str = "cpu", classes: Sequence[str] = ()
) -> Tensor | None:
    """Weights of the labeled loss: 1/sqrt(f) or 1/f of a class's share f, with mean 1 over the classes that occur.

    Or those that `kind` gives by name, as they are. Raises BadSetting for a name that is none of `classes`.
    """
    if kind == "none":
        return None
    if kind not in FREQUENCY:
        named = weights_by_name(kind) or {}
        if unknown := next((name for name in named if name not in classes), None):
            allowed = f"weights of this dataset's classes, and {unknown!r} is none"
            raise BadSetting("train.class_weights", kind, allowed, fix=did_you_mean(unknown, classes))
        return torch.tensor([named.get(name, 1.0) for name in classes], dtype=torch.float32, device=device)
    f = torch.tensor(frequencies, dtype=torch.float64)
    weights = f.clamp(min=1e-12) ** (-0.5 if kind == "sqrt" else -1.0)
    weights[f == 0] = 0.0
    return (weights * (f > 0).sum() / weights.sum()).float().to(device)
