"""Sums over the processes of a run, for losses whose mean is over the whole batch rather than over each process's."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


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


@torch.no_grad()
def gathered(x: Tensor, dim: int) -> Tensor:
    """The tensors of all processes, alike in shape, joined along `dim`; the tensor itself where there is one process.

    Every process must call it, and all get the same.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts, dim)


def idle(*modules: nn.Module | None) -> Tensor | float:
    """Zero, with zero gradients for the parameters of modules that a step does not use: DDP waits for all of them.

    None, a module that a method was not given, has none.
    """
    return 0.0 * sum(p.sum() for module in modules if module is not None for p in module.parameters())
