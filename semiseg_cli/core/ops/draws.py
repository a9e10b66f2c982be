"""Random numbers that are a function of (seed, step, slot, key), and of nothing else.

A slot is an image's place in the global batch. Whatever the number of workers, processes or micro-batches, and after
any resume, the image in slot 5 of step 700 gets the same numbers.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Draws:
    """Draws for the images of one micro-batch. slots: their places in the global batch, ascending."""

    def __init__(self, seed: int, step: int, slots: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.seed, self.step, self.slots = seed, step, slots

    def generator(self, key: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.step, zlib.crc32(key.encode())])

    def uniform(self, key: str, count: int) -> Floats:
        """(images, count) numbers uniform in [0, 1). Row r of the table belongs to slot r, however long it is."""
        rows = self.generator(key).random((int(self.slots.max()) + 1, count))
        return np.asarray(rows[self.slots])

    def derangement(self, key: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A random cyclic order of the micro-batch (Sattolo): no image is its own partner, unless it is alone."""
        rng = self.generator(f"{key}/{int(self.slots[0])}")
        order = np.arange(len(self.slots))
        for i in range(len(order) - 1, 0, -1):
            j = int(rng.integers(0, i))
            order[i], order[j] = order[j], order[i]
        return order
