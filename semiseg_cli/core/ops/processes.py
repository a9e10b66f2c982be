"""What processes do together: share work out, sums (of losses whose mean is over the whole batch too), questions.

Work is shared as items whose order every process knows: each takes every n-th of them, so that all are done once by any
number of processes, one included; and what an item is never depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def here() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def share_of(items: Iterable[T]) -> Iterator[T]:
    """Those of the items that are this process's."""
    rank, size = here()
    return islice(items, rank, None, size)


def told(said: T) -> list[T]:
    """What each process says, in their order; to be pickled. Every process must call it, and all get the same."""
    _, size = here()
    if size == 1:
        return [said]
    heard: list[Any] = [None] * size
    dist.all_gather_object(heard, said)
    return heard


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes; the tensor itself where there is one. Every process must call it.

    Gradients are averaged over processes. The gradient is therefore multiplied by it, so that a loss made
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


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether a flag is set in any process. Every process must call it, and waits for the others."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return flag
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def per_micro_batch(weights_M: Tensor, images: int) -> Tensor:
    """What a micro-batch's sum is divided by, so that the mean over micro-batches is that over the global batch.

    weights: (M, ...) what each pixel, or image, of all this process's micro-batches of a step counts: bool, or float.
    images: of one micro-batch. The result is their sum over all processes, per micro-batch; never 0.
    """
    total = summed(weights_M.sum())
    total = total.clamp(min=1e-12 if total.is_floating_point() else 1)
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    parts = len(weights_M) // images * world
    return total if parts == 1 else total / parts
