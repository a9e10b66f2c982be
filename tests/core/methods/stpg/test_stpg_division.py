"""What STPG keeps and what it does not when a batch is divided, beyond the contract that all methods are held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from steps import fed, whole_step
from torch import Tensor, nn

from semiseg_cli.core.training.step import Step, Train
from semiseg_cli.core.types import Clock

Make, Batches = Callable[..., Train], Callable[..., dict[str, Tensor]]
COUNT, CLOCK = 4, Clock(5, 10)


def gradient(train: Train, host: dict[str, Tensor], micro: int, first: int = 0, count: int = COUNT) -> Tensor:
    """Of the images from `first` on, in micro-batches, with frozen batch-norm statistics."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():  # networks that differ, and that see several classes
        for p in train.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    for module in train.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    neighbours = torch.arange(COUNT) ^ 1
    host = host | {f"partner_{key}": host[f"unlabeled_{key}"][neighbours] for key in ("image", "valid", "index")}
    starts = range(first, first + count, micro)
    partners = "loaded" if micro == 1 else ""
    hosts = [fed(train, {name: x[at : at + micro] for name, x in host.items()}, partners) for at in starts]
    step = Step(hosts, np.arange(first, first + count)) if len(hosts) > 1 else None
    for at, part in zip(starts, hosts, strict=True):
        whole_step(train, part, CLOCK, np.arange(at, at + micro), COUNT, step, share=1 / len(hosts))
    return torch.cat([p.grad.flatten() for p in train.parameters() if p.grad is not None])


def test_one_module_gives_the_gradient_of_the_whole_in_micro_batches(train_module: Make, host_batch: Batches) -> None:
    settings = {"modules": "single", "lambda_ctr": 0.0}
    whole, *others = (
        gradient(train_module("stpg", **settings).double(), host_batch(3, COUNT), micro) for micro in (4, 2, 1)
    )
    assert whole.abs().max() > 0.01
    for other in others:
        torch.testing.assert_close(other, whole, rtol=1e-9, atol=1e-12)


def test_selection_differs_between_micro_batches(train_module: Make, host_batch: Batches) -> None:
    """As the docstring says: the matrix of eq. 5 is of one of them."""
    settings = {"pixel_selection": "high", "lambda_ctr": 0.0}
    whole, parts = (gradient(train_module("stpg", **settings).double(), host_batch(3, COUNT), m) for m in (4, 2))
    assert (whole - parts).norm() > 1e-4 * whole.norm()


def process(rank: int, folder: str, train: Train, host: dict[str, Tensor]) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 2), rank=rank, world_size=2)
    torch.save(gradient(train, host, 2, first=2 * rank, count=2), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_selection_is_the_same_in_two_processes(train_module: Make, host_batch: Batches, tmp_path: Path) -> None:
    """The matrix of eq. 5 counts the pixels of both."""
    train, host = train_module("stpg", pixel_selection="high", lambda_ctr=0.0).double(), host_batch(3, COUNT)
    torch.multiprocessing.start_processes(process, (str(tmp_path), train, host), nprocs=2, start_method="fork")
    both = sum(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)) / 2
    torch.testing.assert_close(both, gradient(train, host, 4), rtol=1e-9, atol=1e-12)
