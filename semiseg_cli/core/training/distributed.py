"""Several processes: join what torchrun or SLURM started, agree on things, and leave in good order."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from semiseg_cli.core.errors import DeviceError, Diverged, Interrupted, SemisegError
from semiseg_cli.core.ops.processes import anywhere, told
from semiseg_cli.core.training.meeting import meet
from semiseg_cli.core.training.peers import WAIT, Peers


@dataclass(frozen=True)
class World:
    """This process among its peers, and the device it works on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    peers: Peers = field(default_factory=Peers, compare=False)

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def join(device: str = "auto") -> World:
    """The world that the environment describes (WORLD_SIZE, RANK, LOCAL_RANK), or a world of one.

    device, and what is raised: as of `device_of`; and of `meet`.
    """
    place, size = device_of(device), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not dist.is_initialized():
        meet("nccl" if place.type == "cuda" else "gloo")
    rank = int(os.environ.get("RANK", "0"))
    return World(rank, size, place, Peers.connected(rank, size) if size > 1 else Peers())


_within: World | None = None  # the world that this process has joined


def device_of(device: str) -> torch.device:
    """This process's own device. device: auto (CUDA if there is one), cpu, or cuda.

    Raises DeviceError when CUDA is asked for and absent.
    """
    if device not in ("auto", "cpu") and not torch.cuda.is_available():
        raise DeviceError(f"device '{device}' was asked for, but torch sees no CUDA device", fix="--device cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and local >= torch.cuda.device_count():
        raise DeviceError(f"process {local} has no GPU: this machine has {torch.cuda.device_count()}", fix="--gpus N")
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    return place


def any_process(flag: bool, world: World) -> bool:
    """Whether the flag is set in any process. Waits for all of them."""
    return anywhere(flag, world.device) if world.size > 1 else flag


class Agreement:
    """Whether a flag is set in any process: asked at the end of every step, answered at the end of the next one.

    All get the same answer at the same step, and no device waits: what is read was computed a step ago.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.read: Callable[[], bool] = lambda: False
        self.stream = torch.cuda.Stream(world.device) if world.device.type == "cuda" else None

    def __call__(self, flag: bool) -> bool:
        if self.world.size == 1:
            return flag
        before, self.read = self.read, self._ask(flag)
        return before()

    def _ask(self, flag: bool) -> Callable[[], bool]:
        shared = torch.full((), float(flag), device=self.world.device)
        work = dist.all_reduce(shared, dist.ReduceOp.MAX, async_op=True)
        if self.stream is None:

            def read() -> bool:
                work.wait()
                return bool(shared)

            return read
        with torch.cuda.stream(self.stream):  # not the stream of the steps: reading would wait for those after it
            work.wait()
            on_host = torch.empty((), pin_memory=True).copy_(shared, non_blocking=True)
            shared.record_stream(self.stream)

        def read_from_device() -> bool:
            assert self.stream is not None
            self.stream.synchronize()  # nothing else is on it
            return bool(on_host)

        return read_from_device


def shared(path: Path | None, world: World) -> Path:
    """A path that the first process has, in all of them."""
    told = [path]
    if world.size > 1:
        dist.broadcast_object_list(told, 0)
    assert told[0] is not None
    return told[0]


def barrier(world: World) -> None:
    if world.size > 1:
        dist.barrier()


def averaged(means: Mapping[str, float | list[float]]) -> dict[str, float | list[float]]:
    """What each process has measured of its part of a batch, as a mean over all: numbers, or lists of them, by name."""
    found, rows = dict[str, float | list[float]](), told(means)
    for name in means:
        values = [np.asarray(row[name]) for row in rows if name in row]
        found[name] = np.mean(values, 0).tolist()
    return found


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
def joined(
    device: str = "auto", agreed: tuple[type[SemisegError], ...] = (Interrupted, Diverged), resume: str = ""
) -> Iterator[World]:
    """The world of `join`, left in good order at the end. agreed: errors that all processes raise together, besides
    those that say so. resume: what to do where a process is lost; see `Peers`.

    A process that fails alone leaves at once, and lets its peers know: they may never reach a barrier. Where one is
    lost, what an exchange with it raises becomes ProcessLost. Within another one it is that one's world, and leaves
    nothing.
    """
    global _within
    if _within:
        yield _within
        return
    world = join(device)
    world.peers.resume = resume
    _within = world if world.size > 1 else None
    try:
        yield world
    except BaseException as error:
        if isinstance(error, agreed) or getattr(error, "agreed", False):
            _leave(world)
            raise
        ours = isinstance(error, SemisegError) or not isinstance(error, Exception)
        lost = None if ours or world.size == 1 else world.peers.error(WAIT)
        world.peers.leave(failed=str(error) or type(error).__name__)
        if lost:
            raise lost from error
        raise
    finally:
        _within = None
    _leave(world)


def sharing(device: str) -> AbstractContextManager[World]:
    """The world of a command that shares its work, and keeps what it has done: an interrupt comes to one process."""
    return joined(device, (), "the same command; what it keeps in files is not computed again")


def _leave(world: World) -> None:
    """Destroy the process group after a barrier and a collection: without them gloo aborts now and then."""
    if world.size > 1 and dist.is_initialized():
        dist.barrier()
        world.peers.leave()
        gc.collect()
        dist.destroy_process_group()
