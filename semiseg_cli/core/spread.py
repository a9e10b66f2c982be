"""What several runs say together: mean and deviation, and what one gains on another on the same labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """mean: of `count` values. deviation: of the sample, None for one value. half: half the width of the mean's 95 %
    interval by Student's t, None for one value."""

    mean: float
    deviation: float | None
    half: float | None
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more, which are taken for independent draws of a normal distribution.

    >>> spread([1.0, 2.0, 3.0]).deviation
    1.0
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Spread(mean, None, None, len(values))
    from scipy.stats import t  # half a second, which nobody pays who compares nothing

    deviation = statistics.stdev(values)
    half = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Spread(mean, deviation, half, len(values))
