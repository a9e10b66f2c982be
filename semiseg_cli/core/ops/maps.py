"""Lists of feature maps: joined along the batch, and with channels dropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def drop_channels(maps: Sequence[Tensor], factors: Sequence[Tensor]) -> list[Tensor]:
    """Channel dropout with given factors (B, C, 1, 1), each 0 or 1/(1 - rate): UniMatch's feature perturbation."""
    return [x * factor.to(x.dtype) for x, factor in zip(maps, factors, strict=True)]


def cat_maps(*batches: Sequence[Tensor]) -> list[Tensor]:
    """Concatenate lists of feature maps along the batch, map by map."""
    return [torch.cat(level) for level in zip(*batches, strict=True)]
