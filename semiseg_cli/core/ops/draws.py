"""Random numbers that are a function of (seed, step, slot, key), and of nothing else.

A slot is an image's place in the global batch. Whatever the number of workers, processes or micro-batches, and after
any resume, the image in slot 5 of step 700 gets the same numbers.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from semiseg_cli.core.errors import UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]
Slots = np.ndarray[Any, np.dtype[np.int64]]


class Draws:
    """Draws for the images of one micro-batch. slots: their places in the global batch of `batch` images, ascending."""

    def __init__(self, seed: int, step: int, slots: Slots, batch: int, suffix: str = "") -> None:
        self.seed, self.step, self.slots, self.batch, self.suffix = seed, step, slots, batch, suffix

    def at(self, step: int) -> Draws:
        """Those of another step."""
        return Draws(self.seed, step, self.slots, self.batch, self.suffix)

    def uniform(self, key: str, count: int) -> Floats:
        """(images, count) numbers uniform in [0, 1). Row r of an endless table belongs to slot r.

        The generator steps over the rows of slots that are not here: a process pays for its own.
        """
        bits = np.random.PCG64([self.seed, self.step, zlib.crc32((key + self.suffix).encode())])
        rng, rows, at = np.random.Generator(bits), [], 0
        own, place = np.unique(self.slots, return_inverse=True)
        for run in np.split(own, np.flatnonzero(np.diff(own) > 1) + 1):
            bits.advance((int(run[0]) - at) * count)  # a number takes one step
            rows.append(rng.random((len(run), count)))
            at = int(run[-1]) + 1
        return np.asarray(np.concatenate(rows)[place])

    def half(self, key: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For every image whether it is among floor(batch / 2) of the global batch, drawn without replacement."""
        rng = np.random.default_rng([self.seed, self.step, zlib.crc32((key + self.suffix).encode())])
        rank = rng.random(self.batch).argsort().argsort()
        return np.asarray(rank[self.slots] < self.batch // 2)

    def neighbours(self) -> Slots:
        """For every image the place in this micro-batch of its neighbour (`neighbours`). UsageError if it lacks."""
        theirs = neighbours(self.slots, self.batch)
        if not np.isin(theirs, self.slots).all():
            what = f"of a batch of {self.batch} images in micro-batches of {len(self.slots)}, pairs are torn apart"
            raise UsageError(what, fix="-s train.micro_batch=N with an even N, or --batch N with an even N per device")
        return np.searchsorted(self.slots, theirs)


def neighbours(slots: Slots, batch: int) -> Slots:
    """Partners in the global batch: slots 0 and 1, 2 and 3, ... have each other; the last three of an odd batch a ring.

    Which images these are is drawn anew in every step, so a fixed neighbour is as random as any, and it lies in the
    same micro-batch wherever those are even. No image is its own partner, unless it is alone.
    """
    partner = slots ^ 1
    if batch % 2:
        ring = max(batch - 3, 0)
        partner = np.where(slots >= ring, ring + (slots - ring + 1) % min(batch, 3), partner)
    return partner
