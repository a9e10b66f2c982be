"""In which order a run sees its images: all of them once per pass, at random, a function of (seed, stream, pass).

Of up to STORED images a pass is a permutation in memory. Of more it is one that is computed place by place: a Feistel
network over two digits, of which each is moved by what a hash makes of the other (Luby and Rackoff, 1988), for any
number of images (Black and Rogaway, 2002). Which of the two it is depends on the number of images alone, so that a run
goes on as it began.

Images in shards are visited by HEADS at once. All shards stand in random order; each head begins in another part of
that order and goes through it, every shard in a random order of its images, and the heads take turns. So reads stay
within HEADS shards, of which one is exchanged at a time. Shards being random samples of the pool, that is as good.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

STREAMS = {"labeled": 1, "unlabeled": 2, "second": 3, "paired": 4}  # part of the seed: change one, every run changes
STORED = 2**20  # change it, and runs of pools between the two values go on with other images than they would have had
ROUNDS = 4  # as few as make it a permutation that nobody can tell from a random one
HEADS = 8  # change it, and runs of pools in shards go on with other images


class Blocks(NamedTuple):
    """How images lie in shards: `size` in each, the first of them at place `begin`; what is before it are files.

    size 0: they do not. The last shard may have fewer.
    """

    size: int = 0
    begin: int = 0


FILES = Blocks()  # which lie in no shards


def pick(seed: int, stream: str, count: int, position: int, blocks: Blocks = FILES) -> int:
    """The image at a position of an endless stream: every one of `count` once per pass, in random order."""
    number, place = divmod(position, count)
    key = f"{seed} {STREAMS[stream]} {number}"
    if blocks.size:
        return by_blocks(place, count, key, blocks)
    if count <= STORED:
        return int(_order(seed, STREAMS[stream], number, count)[place])
    return permuted(place, count, key)


@lru_cache(maxsize=8)
def _order(seed: int, stream: int, number: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng([seed, stream, number]).permutation(count)


def by_blocks(place: int, count: int, key: str, blocks: Blocks) -> int:
    """Where `place` goes in the order of `count` places that belongs to `key` and reads HEADS blocks at a time.

    Places are counted from where the first block begins, around the end, so that a block is a shard. One block is
    shorter, if any: it stands at a random place among the others.
    """
    size, length = blocks.size, count // HEADS  # length: of what a head goes through
    if place < HEADS * length:
        turn, head = divmod(place, HEADS)
        place = permuted(head, HEADS, f"{key} turn {turn}") * length + turn
    full, short = divmod(count, size)
    before = permuted(0, full + 1, f"{key} short") * size  # places of the blocks before the short one
    if before <= place < before + short:
        block, within = full, permuted(place - before, short, f"{key} block {full}")
    else:
        block, within = divmod(place - short * (place >= before), size)
        block = permuted(block, full, f"{key} blocks")
        within = permuted(within, size, f"{key} block {block}")
    return (block * size + within + blocks.begin) % count


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
