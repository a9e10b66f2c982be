"""Several processes: join what torchrun or SLURM started, agree on things, and leave in good order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn

from semiseg_cli.core.errors import DeviceError, Diverged, Interrupted


@dataclass(frozen=True)
class World:
    """This process among its peers, and the device it works on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def join(device: str = "auto") -> World:
    """The world that the environment describes (WORLD_SIZE, RANK, LOCAL_RANK), or a world of one.

    device: auto (CUDA if there is one), cpu, or cuda. Raises DeviceError when CUDA is asked for and absent.
    """
    if device not in ("auto", "cpu") and not torch.cuda.is_available():
        raise DeviceError(f"device '{device}' was asked for, but torch sees no CUDA device", fix="--device cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and local >= torch.cuda.device_count():
        raise DeviceError(f"process {local} has no GPU: this machine has {torch.cuda.device_count()}", fix="--gpus N")
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return World(int(os.environ.get("RANK", "0")), size, place)


def any_process(flag: bool, world: World) -> bool:
    """Whether the flag is set in any process. Waits for all of them."""
    if world.size == 1:
        return flag
    shared = torch.tensor(float(flag), device=world.device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()


def average_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Replace every gradient by its mean over the processes, in one exchange. Once a step, after all backward passes.

    Every process must have met the same losses: a parameter without a gradient has none anywhere, and keeps none.
    """
    if world.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / world.size).split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


@torch.no_grad()
def same_start(module: nn.Module, world: World) -> None:
    """Every process begins with the tensors of the first."""
    if world.size > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """The world of `join`, left in good order at the end.

    A process that fails alone leaves at once: its peers may never reach a barrier, and whoever started them ends them.
    """
    world = join(device)
    try:
        yield world
    except (Interrupted, Diverged):  # what all processes agreed on
        _leave(world)
        raise
    _leave(world)


def _leave(world: World) -> None:
    """Destroy the process group after a barrier and a collection: without them gloo aborts now and then."""
    if world.size > 1 and dist.is_initialized():
        dist.barrier()
        gc.collect()
        dist.destroy_process_group()
