"""In which order a run sees its images: all of them once per pass, at random, a function of (seed, stream, pass).

Of up to STORED images a pass is a permutation in memory. Of more it is one that is computed place by place: a Feistel
network over two digits, of which each is moved by what a hash makes of the other (Luby and Rackoff, 1988), for any
number of images (Black and Rogaway, 2002). Which of the two it is depends on the number of images alone, so that a run
goes on as it began.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np

STREAMS = {"labeled": 1, "unlabeled": 2, "second": 3, "paired": 4}  # part of the seed: change one, every run changes
STORED = 2**20  # change it, and runs of pools between the two values go on with other images than they would have had
ROUNDS = 4  # as few as make it a permutation that nobody can tell from a random one


def pick(seed: int, stream: str, count: int, position: int) -> int:
    """The image at a position of an endless stream: every one of `count` once per pass, in random order."""
    number, place = divmod(position, count)
    if count <= STORED:
        return int(_order(seed, STREAMS[stream], number, count)[place])
    return permuted(place, count, f"{seed} {STREAMS[stream]} {number}")


@lru_cache(maxsize=8)
def _order(seed: int, stream: int, number: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng([seed, stream, number]).permutation(count)


def permuted(place: int, count: int, key: str) -> int:
    """Where `place` goes in the permutation of `count` places that belongs to `key`.

    The two digits make a few places more than there are: one that leads to such a place goes on from there, to its end
    in a place that there is.
    """
    high = math.isqrt(count - 1) + 1
    low = -(-count // high)
    while True:
        left, right = divmod(place, low)
        for number in range(0, ROUNDS, 2):
            left = (left + _hashed(key, number, right)) % high
            right = (right + _hashed(key, number + 1, left)) % low
        place = left * low + right
        if place < count:
            return place


def _hashed(key: str, number: int, digit: int) -> int:
    said = f"{key} {number} {digit}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")
