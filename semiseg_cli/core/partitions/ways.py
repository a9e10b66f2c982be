"""Ways to draw an own partition: which images, and in which order.

has: bool (images, classes), what each image contains, the images in the random order of the seed. tie: bytes that a
word has under that seed, to decide between equals. The result is the places of `count` images, in the order drawn; one
more image is asked for by a larger count and must come last, so that a larger partition contains the smaller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

Has = np.ndarray[Any, np.dtype[np.bool_]]
Tie = Callable[[str], bytes]


def at_random(has: Has, count: int, tie: Tie) -> list[int]:
    """The first in the random order."""
    return list(range(count))


def classes(has: Has, count: int, tie: Tie) -> list[int]:
    """Greedy: take the class that the fewest chosen images contain (a tie goes to the class that fewer images of the
    dataset contain, then by seed), and of the images left the first that contains it.

    With at least as many images as classes, every class that occurs is covered.
    """
    images, kinds = has.shape
    total, ties = has.sum(0), [tie(f"class {k}") for k in range(kinds)]
    waiting = [deque(np.flatnonzero(has[:, k]).tolist()) for k in range(kinds)] + [deque(range(images))]
    seen = np.zeros(kinds, dtype=np.int64)
    picks: dict[int, None] = {}  # in order
    while len(picks) < count:
        for line in waiting:
            while line and line[0] in picks:
                line.popleft()
        usable = [k for k in range(kinds) if waiting[k]]
        rarest = min(usable, key=lambda k: (seen[k], total[k], ties[k]), default=kinds)  # none: any image
        pick = waiting[rarest][0]
        seen += has[pick]
        picks[pick] = None
    return list(picks)
