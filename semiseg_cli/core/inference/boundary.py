"""Boundary F-score of a segmentation, as in table 4 of MaskMatch (threshold 0.0003).

The measure is DAVIS's contour accuracy (Perazzi et al., CVPR 2016, arXiv 1704.00675) in the form that the
segmentation literature took over with Gated-SCNN (Takikawa et al., ICCV 2019, arXiv 1907.05740): the tolerance is the
threshold times the image's diagonal rounded up, so at least 1 pixel (0.0003 gives 1 on Cityscapes, 0.00088 gives 3).
We leave out a class that is neither in the labels nor in the prediction of an image; the field's code counts it as 1
(`eval --absent-as-one`).
"""

from __future__ import annotations

from math import ceil, hypot

import torch
from torch import Tensor


def boundary_f(
    pred_BHW: Tensor, label_BHW: Tensor, classes: int, ignore: int = 255, threshold: float = 0.0003
) -> Tensor:
    """F-score of the boundary of each class in each image: float64 BxK in [0, 1], NaN where the class is absent.

    A boundary pixel is one whose right, lower or lower right neighbour differs; it is matched when a boundary pixel of
    the other map lies within ceil(threshold * diagonal) pixels (Euclidean). Ignored pixels belong to no class in both
    maps. F = 2PR / (P + R); 0 where only one of the two has a boundary, 1 where the class fills both images.
    """
    known = label_BHW != ignore
    radius = ceil(threshold * hypot(*label_BHW.shape[1:]))
    columns = [_class_f((pred_BHW == k) & known, label_BHW == k, radius) for k in range(classes)]
    return torch.stack(columns, 1)


def _class_f(pred_BHW: Tensor, label_BHW: Tensor, radius: int) -> Tensor:
    """F-scores (B,) of two boolean maps."""
    ours, theirs = _edges(pred_BHW), _edges(label_BHW)
    hits = (ours & _dilate(theirs, radius)).sum((1, 2)).double()
    found = (theirs & _dilate(ours, radius)).sum((1, 2)).double()
    n_ours, n_theirs = ours.sum((1, 2)), theirs.sum((1, 2))
    precision, recall = hits / n_ours.clamp_min(1), found / n_theirs.clamp_min(1)
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-300)
    f = torch.where((n_ours == 0) & (n_theirs == 0), 1.0, f)
    return torch.where((pred_BHW | label_BHW).flatten(1).any(1), f, torch.nan)


def _edges(inside_BHW: Tensor) -> Tensor:
    edge = torch.zeros_like(inside_BHW)
    edge[:, :, :-1] |= inside_BHW[:, :, :-1] ^ inside_BHW[:, :, 1:]
    edge[:, :-1] |= inside_BHW[:, :-1] ^ inside_BHW[:, 1:]
    edge[:, :-1, :-1] |= inside_BHW[:, :-1, :-1] ^ inside_BHW[:, 1:, 1:]
    return edge


def _dilate(edge_BHW: Tensor, radius: int) -> Tensor:
    """Every pixel within `radius` of an edge pixel: one shifted copy per pixel of the disk."""
    height, width = edge_BHW.shape[1:]
    out = torch.zeros_like(edge_BHW)
    for dy in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if dx * dx + dy * dy <= radius * radius:
                target = out[:, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
                target |= edge_BHW[:, max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    return out
