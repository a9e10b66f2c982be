"""Contrast of pixel features with anchors and memories (STPG, eqs. 15 and 16), and which pixels take part.

Shapes: P pixels, K classes, D dimensions, S sampled features. Features have unit length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def first_of_class(order_P: Tensor, label_P: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` pixels of every class in the order given: their indices (K, count), and which exist (bool).

    order: a permutation of the pixels. label: int64; K and more, such as 255, belongs to no class. An index without a
    pixel is any valid one. Sizes are fixed, so nothing waits for the device.
    """
    label = label_P.clamp(max=classes)
    order = order_P[label[order_P].argsort(stable=True)]
    size = torch.zeros(classes + 1, dtype=torch.long, device=label.device)
    size.scatter_add_(0, label, torch.ones_like(label))
    start, rank = size.cumsum(0) - size, torch.arange(count, device=label.device)
    index = order[(start[:classes, None] + rank).clamp(max=len(label) - 1)]
    return index, rank < size[:classes, None]


def draw_pixels(number_P: Tensor, label_P: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` pixels of every class: indices (S,), and which of them are drawn; others fill it up.

    Those with the least of the random numbers are drawn. S is K `count`, or P where there are fewer pixels than that.
    """
    index_KM, exists_KM = first_of_class(number_P.argsort(stable=True), label_P, classes, count)
    index, exists = index_KM.flatten(), exists_KM.flatten()
    if len(index) > len(label_P):
        first = exists.byte().argsort(descending=True, stable=True)[: len(label_P)]
        index, exists = index[first], exists[first]
    return index, exists


def anchor_loss(
    features_SD: Tensor, label_S: Tensor, taken_S: Tensor, anchors_KD: Tensor, assigned_K: Tensor, temperature: float
) -> Tensor:
    """L_ac of eq. 15, the mean over the taken features whose class has an anchor; 0 if there is none.

    anchors: of each class, in the classes' order. The denominator is over the assigned ones, the positive counted once.
    """
    with torch.autocast(features_SD.device.type, enabled=False):
        logits = features_SD @ anchors_KD.to(features_SD).T / temperature
    logits = logits.masked_fill(~assigned_K, -1e4)  # finite: the loss is, even where no class has an anchor
    counted = taken_S & assigned_K[label_S]
    loss = F.cross_entropy(logits, label_S, reduction="none")
    return torch.where(counted, loss, 0.0).sum() / counted.sum().clamp(min=1)


def similarity_loss(
    features_SD: Tensor, label_S: Tensor, taken_S: Tensor, means_KD: Tensor, held_K: Tensor
) -> Tensor:
    """L_sim of eq. 16, the mean over the taken features; one whose class has an empty queue counts as 0.

    means: of the unit vectors in each queue. The mean of the cosines with them is the product with their mean.
    held: how many vectors each queue has.
    """
    cosine = (features_SD * means_KD.to(features_SD)[label_S]).sum(1)
    loss = torch.where(taken_S & (held_K > 0)[label_S], 1 - cosine, 0.0)
    return loss.sum() / taken_S.sum().clamp(min=1)
