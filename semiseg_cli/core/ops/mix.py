"""Mixing two batches of images, and dropping feature channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cutmix(image_BCHW: Tensor, partner_BCHW: Tensor, box_BHW: Tensor) -> Tensor:
    """The partner inside the box, the image elsewhere (Yun et al., 2019, arXiv 1905.04899)."""
    return torch.where(box_BHW[:, None], partner_BCHW, image_BCHW)


def drop_channels(maps: Sequence[Tensor], factors: Sequence[Tensor]) -> list[Tensor]:
    """Channel dropout with given factors (B, C, 1, 1), each 0 or 1/(1 - rate): UniMatch's feature perturbation."""
    return [x * factor.to(x.dtype) for x, factor in zip(maps, factors, strict=True)]


def cat_maps(*batches: Sequence[Tensor]) -> list[Tensor]:
    """Concatenate lists of feature maps along the batch, map by map."""
    return [torch.cat(level) for level in zip(*batches, strict=True)]
