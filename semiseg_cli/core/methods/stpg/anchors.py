"""Anchors: points of the unit sphere as far from each other as can be, one for each class (STPG, eqs. 12 and 14)."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def make_anchors(count: int, dimensions: int, temperature: float) -> Tensor:
    """The minimum of eq. 12: `count` unit vectors, float32 (count, dimensions), the same on every call.

    Up to dimensions + 1 of them the minimum is the regular simplex, known in closed form; more are found by gradient.
    """
    if count <= dimensions + 1:
        return simplex(count, dimensions).float()
    return spread(count, dimensions, temperature).float()


def simplex(count: int, dimensions: int) -> Tensor:
    """Corners of a regular simplex around the origin, float64: every two have the cosine -1 / (count - 1).

    Row k of a Helmert matrix compares the first k unit vectors with the next one; its columns are the corners. They
    fill the first count - 1 dimensions: a projection that is learned may turn as it likes.
    """
    corners = torch.zeros(count, max(dimensions, count - 1), dtype=torch.float64)
    for k in range(1, count):
        scale = 1 / math.sqrt(k * (k + 1))
        corners[:k, k - 1] = scale
        corners[k, k - 1] = -k * scale
    return F.normalize(corners, dim=1)


def spread(count: int, dimensions: int, temperature: float, steps: int = 500) -> Tensor:
    """Descend eq. 12 from fixed random points, float64: for more classes than a simplex has corners."""
    start = torch.Generator().manual_seed(0)
    points = F.normalize(torch.rand(count, dimensions, generator=start, dtype=torch.float64) - 0.5, dim=1)
    for step in range(steps):
        points.requires_grad_(True)
        (slope,) = torch.autograd.grad(anchor_energy(points, temperature), points)
        rate = 0.5 * count * temperature * (1 - step / steps)  # twice as long steps can throw points together
        points = F.normalize(points.detach() - rate * slope, dim=1)
    return points


def anchor_energy(anchors_KD: Tensor, temperature: float) -> Tensor:
    """L_anchor of eq. 12: (1 / K) sum_i log sum_j exp(v_i . v_j / temperature)."""
    return (anchors_KD @ anchors_KD.T / temperature).logsumexp(1).mean()


def assign(anchors_KD: Tensor, prototypes_KD: Tensor, stable_K: Tensor, assignment_K: Tensor) -> Tensor:
    """sigma of eq. 14: the anchor of every class, int64 (K,), -1 for classes without one. Waits for the device.

    What is assigned already stays. The other classes whose prototypes are stable get the free anchors so that the sum
    of distances |v - c| is least (Hungarian algorithm).
    """
    assignment = assignment_K.cpu().clone()
    classes = (stable_K.cpu() & (assignment < 0)).nonzero().flatten()
    free = torch.tensor([k for k in range(len(anchors_KD)) if k not in assignment.tolist()], dtype=torch.long)
    cost = torch.cdist(prototypes_KD.cpu().double()[classes], anchors_KD.cpu().double()[free])
    rows, columns = linear_sum_assignment(cost.numpy())
    assignment[classes[rows]] = free[columns]
    return assignment.to(assignment_K.device)
