"""What is told of the steps since the last log line: sums on the device, in memory that stays where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor


@dataclass
class Meter:
    """Sums of losses and stats on the device since the last log line; reading them is the only wait.

    A value is a scalar, or a vector with an entry for each class. Sums are added to in place, so that a captured step
    can add to them as well; `counts` are how many values each is of, on the host.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if name in self.sums:
                self.sums[name] += value.detach().float()
            else:
                self.sums[name] = value.detach().to(torch.float32, copy=True)
        self.counted(dict.fromkeys(values, 1))

    def counted(self, more: Mapping[str, int]) -> None:
        for name, count in more.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def reset(self) -> None:
        """Begin anew, after a log line."""
        self.counts.clear()
        if self.sums:
            torch._foreach_zero_(list(self.sums.values()))

    def finite(self) -> bool:
        return all(math.isfinite(value) for values in self._read() for value in values)

    def means(self) -> dict[str, float | list[float]]:
        """The mean of each by name: a number, of a vector a list."""
        row: dict[str, float | list[float]] = {}
        for (name, count), values in zip(self.counts.items(), self._read(), strict=True):
            means = [value / count for value in values]
            row[name] = means if self.sums[name].dim() else means[0]
        return row

    def _read(self) -> list[list[float]]:
        """The entries of every sum that anything was added to, in one transfer."""
        if not self.counts:
            return []
        sums = [self.sums[name] for name in self.counts]
        flat: list[float] = torch.cat([total.flatten() for total in sums]).tolist()
        numbers = iter(flat)
        return [list(islice(numbers, total.numel())) for total in sums]
