"""How unsure a network is of images: the entropy of its predictions, by the class that it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.inference.predictions import Load, load_image, predictions
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.ops.processes import summed

Sums = NDArray[np.float64]


def entropies(
    predictor: Predictor,
    records: Sequence[Record],
    classes: int,
    *,
    load: Load = load_image,
    advance: Callable[[int], object] = lambda images: None,
) -> tuple[Sums, Sums]:
    """Entropy (nats) and pixels (N, K): sums over an image's pixels of each predicted class, at the size seen.

    Several processes share the images, and all get the same.
    """
    places = {record.id: place for place, record in enumerate(records)}
    entropy_NK, pixels_NK = np.zeros((len(records), classes)), np.zeros((len(records), classes))
    for part in predictions(predictor, records, load=load, probabilities=True, shared=True):
        assert part.probs_BKhw is not None
        entropy_Bhw = -part.probs_BKhw.xlogy(part.probs_BKhw).sum(1)
        found = zip(part.records, part.probs_BKhw.argmax(1), entropy_Bhw, strict=True)
        for record, label_hw, entropy_hw in found:
            label, place = label_hw.flatten().cpu().numpy(), places[record.id]
            entropy_NK[place] = np.bincount(label, entropy_hw.flatten().double().cpu().numpy(), minlength=classes)
            pixels_NK[place] = np.bincount(label, minlength=classes)
        advance(len(part.records))
    device = predictor.device
    entropy_NK, pixels_NK = (summed(torch.from_numpy(x).to(device)).cpu().numpy() for x in (entropy_NK, pixels_NK))
    return entropy_NK, pixels_NK
