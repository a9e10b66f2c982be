"""What is told of the steps since the last log line: sums on the device, in memory that stays where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor


@dataclass
class Meter:
    """Sums of losses and stats on the device since the last log line; reading them is the only wait.

    A value is a scalar, or a vector with an entry for each class. Sums are added to in place, so that a captured step
    can add to them as well; `counts` are how many values each is of, on the host, and `skipped` how many of them were
    left out, on the device. `steps` and `seconds` are those since then, and `tally` what a `Guard` counts.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    tally: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], good: Tensor | None = None) -> None:
        """good: one truth on the device, without which the values do not count; None: they do."""
        for name, value in values.items():
            value = value.detach().float()
            if good is not None:
                value = value.masked_fill(~good, 0.0)
                self._add(self.skipped, name, (~good).float())
            self._add(self.sums, name, value)
        self.counted(dict.fromkeys(values, 1))

    @staticmethod
    def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
        if name in sums:
            sums[name] += value
        else:
            sums[name] = value.clone()

    def counted(self, more: Mapping[str, int]) -> None:
        for name, count in more.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def reset(self) -> None:
        """Begin anew, after a log line."""
        self.counts.clear()
        self.steps, self.seconds = 0, 0.0
        if self.sums:
            torch._foreach_zero_([*self.sums.values(), *self.skipped.values()])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and plain values, from which a resumed run goes on as if it had never stopped."""
        tensors = {} if self.tally is None else {"tally": self.tally}
        for kind, values in (("sums", self.sums), ("skipped", self.skipped)):
            tensors |= {f"{kind}/{name}": values[name] for name in self.counts if name in values}
        return tensors, {"counts": dict(self.counts), "steps": self.steps, "seconds": self.seconds}

    def load(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any], device: torch.device | str) -> None:
        """Put a `state` back in place; an empty one, of an earlier version, is that of a log line.

        Raises ValueError for sums of other shapes, or of other names than are counted.
        """
        kinds = {"sums": self.sums, "skipped": self.skipped}
        for name, value in tensors.items():
            kind, _, what = name.partition("/")
            if kind == "tally" and value.shape == (3,):
                self.tally = value.to(device)
            elif kind in kinds and value.dtype == torch.float32 and value.dim() < 2:
                kinds[kind][what] = value.to(device, copy=True)
            else:
                raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}")
        self.counted(plain.get("counts", {}))
        if self.counts.keys() != self.sums.keys() or not self.skipped.keys() <= self.sums.keys():
            raise ValueError("what is counted is not what was summed up")
        self.steps, self.seconds = int(plain.get("steps", 0)), float(plain.get("seconds", 0.0))

    def finite(self) -> bool:
        return all(math.isfinite(value) for values in self._read(self.sums) for value in values)

    def means(self) -> dict[str, float | list[float]]:
        """The mean of each by name: a number, of a vector a list. None of what every step left out."""
        row: dict[str, float | list[float]] = {}
        names = [name for name in self.counts if name in self.skipped]
        skipped = dict(zip(names, self._read(self.skipped), strict=True))
        for (name, count), values in zip(self.counts.items(), self._read(self.sums), strict=True):
            if taken := count - round(sum(skipped.get(name, []))):
                means = [value / taken for value in values]
                row[name] = means if self.sums[name].dim() else means[0]
        return row

    def _read(self, of: Mapping[str, Tensor]) -> list[list[float]]:
        """The entries of every one of these sums that anything was added to, in one transfer."""
        sums = [of[name] for name in self.counts if name in of]
        if not sums:
            return []
        flat: list[float] = torch.cat([total.flatten() for total in sums]).tolist()
        numbers = iter(flat)
        return [list(islice(numbers, total.numel())) for total in sums]
