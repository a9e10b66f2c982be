"""Sums over the processes of a run, for losses whose mean is over the whole batch rather than over each process's."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes; the tensor itself where there is one. Every process must call it.

    DDP divides gradients by the number of processes. The gradient is therefore multiplied by it, so that a loss made
    of such sums, which is the same in all processes, is trained as if one process had the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return total
    scaled = x * dist.get_world_size()
    return scaled + (total - scaled.detach())
