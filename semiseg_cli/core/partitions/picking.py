"""Which photos to label next: some that stand for all others, and resemble none that is labeled.

Photos are rows of features of length 1, so that distances are angles. Near-duplicates count as one photo. The others
are clustered by k-means (Lloyd, 1982, from k-means++, Arthur and Vassilvitskii, 2007), in which labeled photos are
centres that stay; of every new cluster its medoid is picked. Where a network has been asked, photos that it is unsure
about weigh more (weighted k-means of uncertain examples: Zhdanov, arXiv:1901.05954).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

ALIKE = 0.15  # distance of features of length 1 below which photos are one: see RESULTS.md, "Which photos to label"
STARTS, ROUNDS = 4, 50  # of k-means: the best start is taken, after so many rounds at most
ROWS = 4096  # whose distances are computed at once
NUMBERS = 2**26  # of all rows in memory: 256 MB


class Picks(NamedTuple):
    """places: rows that are picked, in the order in which they help most.

    nearest: for every row the number of the pick that it is nearest to, -1 where that is a labeled photo.
    alike: for every row the row that it counts as one with; its own where none is.
    """

    places: list[int]
    nearest: Places
    alike: Places


def pick(x_ND: Floats, labeled: Places, count: int, *, seed: int = 0, weight_N: Any = None) -> Picks:
    """At most `count` of the rows that are not labeled: fewer where no more are different.

    x: rows of length 1. labeled: places of rows that are. weight: how much each counts, above 0; None: all the same.
    """
    order = np.concatenate([labeled, np.setdiff1d(np.arange(len(x_ND)), labeled)])
    alike = np.empty(len(x_ND), np.int64)
    alike[order] = order[near_duplicates(x_ND[order], ALIKE, len(labeled))]
    free = np.setdiff1d(np.flatnonzero(alike == np.arange(len(x_ND))), labeled)
    count = min(count, len(free))
    if not count:
        return Picks([], np.full(len(x_ND), -1), alike)
    weights = np.ones(len(free), np.float32) if weight_N is None else np.asarray(weight_N, np.float32)[free]
    fixed = x_ND[labeled]
    cluster_N, square_N = k_means(x_ND[free], weights, fixed, count, seed)
    members = [np.flatnonzero(cluster_N == len(labeled) + k) for k in range(count)]
    medoids = np.array([free[rows[square_N[rows].argmin()]] for rows in members])
    places = medoids[in_order(x_ND[medoids], np.array([weights[rows].sum() for rows in members]), fixed)]
    stands, _ = nearest(x_ND, np.concatenate([x_ND[places], fixed]))
    return Picks(places.tolist(), np.where(stands < count, stands, -1), alike)


def near_duplicates(x_ND: Floats, away: float, first: int = 0) -> Places:
    """For every row the nearest earlier row that is kept and at most `away` from it; else its own place: it is kept.

    The first so many rows are kept whatever they are near to.
    """
    place_N, count = np.arange(len(x_ND)), len(x_ND)
    kept = place_N < first
    for start in range(0, count, ROWS):
        block = x_ND[start : start + ROWS]
        rows = np.arange(start, start + len(block))
        least = np.where(kept[rows], -1, away**2).astype(np.float32)
        for begin in range(0, start, ROWS):  # rows before this block
            before = begin + np.flatnonzero(kept[begin : begin + ROWS])
            if len(before):
                square = squares(block, x_ND[before])
                closest = square.min(1)
                closer = np.flatnonzero(closest <= least)
                place_N[start + closer], least[closer] = before[square[closer].argmin(1)], closest[closer]
        within = squares(block, block)
        for row in np.flatnonzero((place_N[rows] == rows) & ~kept[rows]):  # each other
            earlier = np.flatnonzero(kept[start : start + row])
            if len(earlier) and within[row, earlier].min() <= away**2:
                place_N[start + row] = start + earlier[within[row, earlier].argmin()]
            else:
                kept[start + row] = True
    return place_N


def k_means(x_ND: Floats, weight_N: Floats, fixed_MD: Floats, count: int, seed: int) -> tuple[Places, Floats]:
    """For every row its centre, and the squared distance to it: the fixed rows come first, then `count` free centres.

    The best of STARTS, by the weighted sum of these distances; no free centre is without a row. x has `count`
    different rows at least, none of them fixed.
    """
    rng = np.random.default_rng(seed)
    found = [_lloyd(x_ND, weight_N, fixed_MD, _spread(x_ND, weight_N, fixed_MD, count, rng)) for _ in range(STARTS)]
    return min(found, key=lambda each: float(weight_N @ each[1]))


def _spread(x_ND: Floats, weight_N: Floats, fixed_MD: Floats, count: int, rng: np.random.Generator) -> Floats:
    """The start of k-means++: rows drawn one by one, by weight and squared distance to those that there are."""
    square_N = nearest(x_ND, fixed_MD)[1] if len(fixed_MD) else np.full(len(x_ND), np.inf, np.float32)
    chosen = list[int]()
    for _ in range(count):
        chance = np.float64(weight_N) * np.where(np.isinf(square_N), 1, square_N)
        chance[chosen] = 0
        chosen.append(int(rng.choice(len(x_ND), p=chance / chance.sum())))
        square_N = np.minimum(square_N, squares(x_ND, x_ND[chosen[-1:]])[:, 0])
    return x_ND[chosen]


def _lloyd(x_ND: Floats, weight_N: Floats, fixed_MD: Floats, centre_KD: Floats) -> tuple[Places, Floats]:
    """Rows to their nearest centre, free centres to the mean of their rows, until nothing changes."""
    free = len(fixed_MD) + np.arange(len(centre_KD))
    before = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        cluster_N, square_N = nearest(x_ND, np.concatenate([fixed_MD, centre_KD]))
        for k in np.setdiff1d(free, cluster_N):  # no row is nearest to it
            alone = (np.bincount(cluster_N)[cluster_N] == 1) & (cluster_N >= len(fixed_MD))
            farthest = int(np.where(alone, -1, square_N).argmax())
            cluster_N[farthest], square_N[farthest] = k, 0
        if np.array_equal(cluster_N, before):
            break
        before = cluster_N
        means = [weight_N[rows] @ x_ND[rows] / weight_N[rows].sum() for rows in (cluster_N == k for k in free)]
        centre_KD = np.stack(means)
    return cluster_N, square_N


def in_order(x_KD: Floats, size_K: Floats, fixed_MD: Floats) -> list[int]:
    """The rows, each next one the one that leaves least of all sizes times squared distances to what was chosen."""
    square_KK = squares(x_KD, x_KD)
    away_K = nearest(x_KD, fixed_MD)[1] if len(fixed_MD) else np.full(len(x_KD), np.inf, np.float32)
    order = list[int]()
    while len(order) < len(x_KD):
        rest_K = np.minimum(away_K, square_KK) @ size_K
        rest_K[order] = np.inf
        order.append(int(rest_K.argmin()))
        away_K = np.minimum(away_K, square_KK[order[-1]])
    return order


def nearest(x_ND: Floats, centre_KD: Floats) -> tuple[Places, Floats]:
    """For every row the nearest centre, the first of equals, and the squared distance."""
    parts = [squares(x_ND[start : start + ROWS], centre_KD) for start in range(0, len(x_ND), ROWS)]
    return np.concatenate([part.argmin(1) for part in parts]), np.concatenate([part.min(1) for part in parts])


def squares(a_ND: Floats, b_MD: Floats) -> Floats:
    """Squared distances (N, M) of rows of length about 1, to 1e-6."""
    square_NM = a_ND @ (-2 * b_MD.T)
    square_NM += np.einsum("nd,nd->n", a_ND, a_ND)[:, None]
    square_NM += np.einsum("nd,nd->n", b_MD, b_MD)
    return np.asarray(np.maximum(square_NM, 0, out=square_NM), np.float32)


def unit_rows(read: Callable[[slice], Floats], count: int, width: int) -> Floats:
    """`count` rows of `width` numbers at length 1; on their principal axes where only so many fit into NUMBERS.

    read: some rows, which are not all 0. The axes are those of the rows' second moments, so that inner products of
    rows of length 1, and with them angles, are kept best.
    """
    blocks = [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
    axes = min(width, max(1, NUMBERS // count))
    basis = None
    if axes < width:
        moments = np.zeros((width, width))
        for block in blocks:
            rows = _unit(read(block))
            moments += rows.T @ rows
        basis = np.linalg.eigh(moments)[1][:, -axes:].astype(np.float32)
    found = np.empty((count, axes), np.float32)
    for block in blocks:
        rows = _unit(read(block))
        found[block] = rows if basis is None else rows @ basis
    return found


def _unit(x_ND: Floats) -> Floats:
    return np.asarray(x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True).clip(min=1e-12), np.float32)


def doubt(entropy_NK: NDArray[np.float64], pixels_NK: NDArray[np.float64]) -> Floats:
    """How unsure a network is about each photo, above 0: the mean entropy of its pixels, rare classes weighing more.

    entropy, pixels: the sum over a photo's pixels of each predicted class, and how many they are. A class weighs
    1 / sqrt(its share of all pixels).
    """
    share_K = pixels_NK.sum(0) / pixels_NK.sum()
    weight_K = np.where(share_K > 0, share_K.clip(min=1e-12) ** -0.5, 0)
    unsure_N = (entropy_NK * weight_K).sum(1) / pixels_NK.sum(1)
    return np.asarray(unsure_N.clip(min=1e-6 * unsure_N.max() + 1e-12), np.float32)
