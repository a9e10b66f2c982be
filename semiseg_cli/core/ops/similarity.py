"""Nearest neighbours by Euclidean distance: exact, a chunk at a time, ties to the lowest index.

Distances come from one float32 matrix product, |x|^2 - 2 q.x. Where its rounding could have changed the order, the
candidates are measured again in float64, difference by difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from semiseg_cli.core.types import at_least_float32

SPARE = 4  # candidates beyond k: what rounding may have put behind the k-th
SCORES = 2**25  # entries of a chunk's table of distances: 128 MB
MEASURED = 2**22  # numbers measured again at once in float64: 32 MB
# How far a score |x|^2 / 2 - q.x can be off, in units of ROUNDING: (sqrt(D) + 3 / 2) |q| |x| + |x|^2.
# - The sum of D terms q.x, by 6 standard deviations of its rounding errors. These are of either sign and at most half a
#   unit in the last place of the partial sums, which grow to |q| |x|: 6 / 3 * 2^-24 sqrt(D) |q| |x|.
# - q and x, each rounded once after centring: 2^-24 |q| |x| and 2^-24 (|q| |x| + |x|^2); the rounded |x|^2 / 2; and the
#   last addition, 2^-24 (|q| |x| + |x|^2 / 2). What has no |q| counts for queries near the centre.
ROUNDING = 2 * 2.0**-24


def nearest_in_batch(query_BD: Tensor, reference_MD: Tensor, barred_BM: Tensor) -> Tensor:
    """For each of a few queries the index (B,) of the nearest reference; the first one where several are.

    barred_BM: bool, references that are out of the question; 0 for a query that is left none.
    """
    query, reference = at_least_float32(query_BD), at_least_float32(reference_MD)
    distance_BM = torch.cdist(query, reference, compute_mode="donot_use_mm_for_euclid_dist")
    nearest: Tensor = distance_BM.masked_fill(barred_BM, torch.inf).argmin(1)
    return nearest


def chunk_rows(references: int) -> int:
    """Queries per chunk, so that its table of distances stays below SCORES entries."""
    return max(1, min(4096, SCORES // max(references, 1)))


def normalised(x_ND: Tensor) -> Tensor:
    """Rows of length 1, whose Euclidean distance is sqrt(2 - 2 cos); a row of zeros stays."""
    scaled: Tensor = x_ND / x_ND.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x_ND.dtype).tiny)
    return scaled


class Neighbours:
    """The k nearest of some references (M, D), exact in the numbers as given, on the references' device.

    cosine: every vector is scaled to length 1 first. 1 <= k <= M.
    """

    def __init__(self, reference_MD: Tensor, k: int, *, cosine: bool = False) -> None:
        if not 1 <= k <= len(reference_MD):
            raise ValueError(f"{k} neighbours of {len(reference_MD)} references")
        self.k, self.cosine, self.given_MD = k, cosine, reference_MD
        self.centre_D = self._double(reference_MD).mean(0)  # distances stay, products and so rounding get smaller
        self.reference_MD = self._centred(reference_MD)
        self.half_square_M = self.reference_MD.double().square().sum(1).float() / 2
        self.largest = self.reference_MD.norm(dim=1).max()

    def __call__(self, query_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Index (N, k) int64 and distance (N, k) float32, nearest first. N as `chunk_rows` says."""
        if query_ND.shape[1] != self.given_MD.shape[1]:
            raise ValueError(f"queries of width {query_ND.shape[1]}, references of {self.given_MD.shape[1]}")
        query = self._centred(query_ND)
        norm_N = query.norm(dim=1)
        with _full_precision():  # |x|^2 / 2 - q.x, which orders like the distance
            score_NM = torch.addmm(self.half_square_M, query, self.reference_MD.T, alpha=-1)
        count = min(self.k + SPARE, len(self.reference_MD))
        score, index = score_NM.topk(count, dim=1, largest=False)
        index, square = index[:, : self.k].contiguous(), 2 * score[:, : self.k] + norm_N.square()[:, None]
        distance = square.clamp(min=0).sqrt()

        doubt_N = ROUNDING * ((query.shape[1] ** 0.5 + 1.5) * norm_N + self.largest) * self.largest
        close = (score[:, : self.k + 1].diff(dim=1) <= 2 * doubt_N[:, None]).any(1)
        small = square[:, 0] <= 512 * doubt_N  # such a distance would be of few digits
        rows = (close | small).nonzero()[:, 0]
        while len(rows):
            score, candidates = score_NM[rows].topk(count, dim=1, largest=False)
            index[rows], distance[rows] = self._measured(query_ND[rows], candidates.sort(1).values)
            if count == len(self.reference_MD):
                break
            rows = rows[score[:, -1] - score[:, self.k - 1] <= 2 * doubt_N[rows]]  # the last candidate may not be last
            count = min(8 * count, len(self.reference_MD))
        return index, distance

    def _measured(self, query_RD: Tensor, candidates_RC: Tensor) -> tuple[Tensor, Tensor]:
        """The k nearest of each row's candidates (ascending indices), in float64 and difference by difference."""
        at_once = max(1, MEASURED // candidates_RC.shape[1] // query_RD.shape[1])
        found = []
        for query, candidates in zip(query_RD.split(at_once), candidates_RC.split(at_once), strict=True):
            distance_R1C = torch.cdist(
                self._double(query)[:, None],
                self._double(self.given_MD[candidates.flatten()]).unflatten(0, candidates.shape),
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            found.append(distance_R1C[:, 0])
        distance_RC, order = torch.cat(found).sort(stable=True)
        order = order[:, : self.k]
        return candidates_RC.gather(1, order), distance_RC[:, : self.k].float()

    def _centred(self, x_ND: Tensor) -> Tensor:
        """Less the centre, rounded once to float32: what is near the centre keeps its digits."""
        if self.cosine or x_ND.dtype == torch.float64:
            return (self._double(x_ND) - self.centre_D).float()
        return x_ND.float() - self.centre_D.float()  # exact before the subtraction, and any centre will do

    def _double(self, x_ND: Tensor) -> Tensor:
        return normalised(x_ND.double()) if self.cosine else x_ND.double()


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 products in float32: neither TF32 on a GPU nor bfloat16 on a CPU, which change neighbours."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
