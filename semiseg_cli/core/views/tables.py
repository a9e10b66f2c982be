"""The tables of a step that is run again and again: made anew for every step, in memory that stays where it is."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.types import Clock, Recipe, Rule, as_table

ALIGNED = 16  # bytes


@dataclass(frozen=True)
class Place:
    """Where a table lies in the buffer."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def of(self, buffer: Tensor) -> Tensor:
        return buffer[self.start : self.end].view(self.dtype).view(self.shape)


class Tables:
    """A `Moment` whose tables lie in one buffer on the device, which one copy fills before every step.

    In the first step it only notes what is asked for: recipes, in their order, and how large their tables are. Every
    later step is given the buffer's tables in that order, and is refused others. What reads the clock from it is told
    the time, and noted in `read`: a step that does so cannot be captured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clock: Clock | None = None
        self.entries: list[tuple[Recipe, dict[str, Place]]] = []
        self.buffer: Tensor | None = None
        self.given = 0
        self.read: list[str] = []

    def fill(self, clock: Clock) -> None:
        """Before a step: all tables of its time."""
        noted = self.clock is not None
        self.clock, self.given = clock, 0
        if not noted:
            return
        cuda = self.device.type == "cuda"
        host = torch.zeros(self._size(), dtype=torch.uint8, pin_memory=cuda)  # PyTorch keeps it until it is copied
        for recipe, places in self.entries:
            for name, table in recipe(clock).items():
                place = places[name]
                assert table.shape == place.shape, f"the table {name} has changed its shape"
                place.of(host).copy_(torch.from_numpy(np.asarray(table, order="C")))
        if self.buffer is None:
            self.buffer = torch.empty_like(host, device=self.device)
        self.buffer.copy_(host, non_blocking=True)

    def tables(self, recipe: Recipe, like: Tensor) -> dict[str, Tensor]:
        assert self.clock is not None, "filled before every step"
        if self.buffer is None:
            tables = self.clock.tables(recipe, like)
            self._note(recipe, tables)
            return tables
        if self.given == len(self.entries):
            raise RuntimeError("a step asks for more tables than the first of its stage")
        _, places = self.entries[self.given]
        self.given += 1
        return {name: place.of(self.buffer) for name, place in places.items()}

    def value(self, rule: Rule, like: Tensor) -> Tensor:
        return self.tables(as_table(rule), like)["value"]

    def __getattr__(self, name: str) -> Any:
        clock = self.__dict__.get("clock")
        if name.startswith("_") or not hasattr(clock, name):
            raise AttributeError(f"a moment has no {name}")
        self.read.append(f"{place_in_code(sys._getframe(1))} reads `{name}` of the clock")
        return getattr(clock, name)

    def _note(self, recipe: Recipe, tables: dict[str, Tensor]) -> None:
        places, start = dict[str, Place](), self._size()
        for name, table in tables.items():
            places[name] = Place(start, tuple(table.shape), table.dtype)
            start = _aligned(places[name].end)
        self.entries.append((recipe, places))

    def _size(self) -> int:
        return _aligned(max((place.end for _, places in self.entries for place in places.values()), default=0))


def place_in_code(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED
