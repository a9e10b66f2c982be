"""How many threads of a CPU compute.

PyTorch's threads wait for one another after every operator. Where operators are small a second thread gains nothing,
and two such processes on the same cores, each waiting for threads that the other keeps from running, take many times as
long as one after the other. So a process takes a thread for every WORK multiplications of a pass, up to the cores.
"""

from __future__ import annotations

import os
from functools import cache

import torch
from torch import nn

WORK = 2 * 10**9
STRIDE = 16  # of the maps that most weights are applied to


@cache
def available() -> int:
    """What PyTorch takes by itself: OMP_NUM_THREADS, or the cores."""
    return torch.get_num_threads()


def take_threads(asked: int, net: nn.Module, pixels: int, device: torch.device) -> int:
    """Compute on `asked` threads, or where that is 0 on as many as suit; returns how many. On a GPU nothing changes.

    As many as suit: OMP_NUM_THREADS if it is set, else by the work of `net` on this many pixels a pass.
    """
    most = available()
    if device.type != "cpu":
        return asked
    if not asked:
        asked = most if os.environ.get("OMP_NUM_THREADS") else max(1, min(most, work(net, pixels) // WORK))
    torch.set_num_threads(asked)
    return asked


def work(net: nn.Module, pixels: int) -> int:
    """Multiplications of a pass, as if all maps had stride 16: of the right size without running it."""
    return sum(p.numel() for p in net.parameters() if p.dim() > 1) * pixels // STRIDE**2
