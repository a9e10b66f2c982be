"""One vector per class: weighted means of features, their moving average, and pulling other features towards them.

S4MIM, arXiv 2411.08756, eqs. 9 to 12. Shapes: B images, K classes, D channels, h w feature pixels. Weights (B, K, h, w)
hold a pixel's weight at its class and 0 at the others (`classwise.one_hot`). Sums run over all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg_cli.core.ops.processes import summed
from semiseg_cli.core.types import at_least_float32


@torch.no_grad()
def class_means(features_BDhw: Tensor, weights_BKhw: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the features, (K, D), zero where a class has no pixel; and which classes have one, bool (K,). Eq. 9."""
    with torch.autocast(features_BDhw.device.type, enabled=False):
        features = at_least_float32(features_BDhw)
        total_K = summed(weights_BKhw.sum((0, 2, 3)))
        sums_KD = summed(torch.einsum("bkhw,bdhw->kd", weights_BKhw.to(features.dtype), features))
    return sums_KD / _divisor(total_K)[:, None], total_K > 0


def aggregation_loss(
    features_BDhw: Tensor, weights_BKhw: Tensor, prototypes_KD: Tensor, temperature: float
) -> Tensor:
    """Weighted mean of (1 - cosine) / temperature towards the prototype of each pixel's class, then over classes.

    Eqs. 10 to 12 without lambda. Classes without a pixel, and those whose prototype is still zero, do not count; 0 if
    none does. Prototypes are constants.
    """
    with torch.autocast(features_BDhw.device.type, enabled=False):
        features, prototypes = at_least_float32(features_BDhw), prototypes_KD.detach()
        length_K = torch.linalg.vector_norm(prototypes, dim=1)
        unit_KD = (prototypes / length_K.clamp(min=1e-6)[:, None]).to(features.dtype)
        length_Bhw = torch.linalg.vector_norm(features, dim=1)
        # Behind a ReLU there are vectors of zeros, which point nowhere: their cosine is 0, and so is its gradient.
        inverse_Bhw = torch.where(length_Bhw > 1e-6, 1 / length_Bhw.clamp(min=1e-6), 0)
        cosine_BKhw = torch.einsum("bdhw,kd->bkhw", features, unit_KD) * inverse_Bhw[:, None]
        sums_K = summed((weights_BKhw * (1 - cosine_BKhw) / temperature).sum((0, 2, 3)))
        total_K = summed(weights_BKhw.sum((0, 2, 3)))
        counted_K: Tensor = (total_K > 0) & (length_K > 0)
        loss_K = torch.where(counted_K, sums_K / _divisor(total_K), 0.0)
    return loss_K.sum() / counted_K.sum().clamp(min=1)


def _divisor(total_K: Tensor) -> Tensor:
    return total_K.where(total_K > 0, 1)
