"""One image at several scales: MaskMatch's multi-scale ensemble (arXiv 2312.08631, eqs. 7 and 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from semiseg_cli.core.networks import Net
from semiseg_cli.core.ops.sizes import fit_image
from semiseg_cli.core.types import at_least_float32


def logits_at(net: Net, image_B3HW: Tensor, factor: float) -> Tensor:
    """Logits (B, K, H, W) of the images scaled by `factor`, brought to their own size by the decoder at once."""
    height, width = image_B3HW.shape[2:]
    scaled_B3HW = fit_image(image_B3HW, net.multiple, factor)
    return net.decode(net.encode(scaled_B3HW), (height, width)).logits_BKHW


def mean_softmax(logits_BKHW: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the softmaxes of several; of one, itself. At least float32.

    A pixel's logits keep the mean of its logsumexps: the inter-pixel loss compares logits from pixel to pixel, where a
    softmax forgets how high they are.
    """
    if len(logits_BKHW) == 1:
        return logits_BKHW[0]
    each, count = [at_least_float32(logits) for logits in logits_BKHW], len(logits_BKHW)
    level = sum(logits.logsumexp(1, keepdim=True) for logits in each) / count
    mixture: Tensor = reduce(torch.logaddexp, (logits.log_softmax(1) for logits in each)) - math.log(count)
    return mixture + level
