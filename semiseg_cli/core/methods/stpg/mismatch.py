"""Where two networks disagree, class by class (STPG, eqs. 5 and 6): which pseudo-labels may teach the Pro-Student."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg_cli.core.ops.metrics import confusion
from semiseg_cli.core.ops.processes import summed

SETS = ("consistent", "high", "low")


def mismatch_scores(pro_BHW: Tensor, gen_BHW: Tensor, valid_BHW: Tensor, classes: int, ignore: int = 255) -> Tensor:
    """I of eq. 5 for each class, (K,) float64 in [0, 2], from one confusion matrix over the valid pixels.

    pro, gen: the classes that Pro-Student and Gen-Teacher predict, int64. A class that one of the two never predicts
    has an empty row or column, which adds 0. float64, because eq. 6 compares the scores. The pixels of all processes
    are counted together: alone, one with few images would score few classes.
    """
    matrix_KK = summed(confusion(gen_BHW, torch.where(valid_BHW, pro_BHW, ignore), classes, ignore)).double()
    agreed, row, column = matrix_KK.diagonal(), matrix_KK.sum(1), matrix_KK.sum(0)
    return (row - agreed) / row.clamp(min=1) + (column - agreed) / column.clamp(min=1)


def pixel_sets(pro_BHW: Tensor, gen_BHW: Tensor, score_K: Tensor) -> dict[str, Tensor]:
    """The three sets of pseudo-labels by name, bool (B, H, W) each: disjoint, and together every pixel.

    consistent: both predict the same. high: they differ, and Gen-Teacher's class is strictly more mismatched (eq. 6).
    low: the rest.
    """
    consistent = pro_BHW == gen_BHW
    high = score_K[pro_BHW] < score_K[gen_BHW]  # never where they agree
    return {"consistent": consistent, "high": high, "low": ~consistent & ~high}
