"""Micro-batches of a step in memory that stays where it is, for steps that are captured."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg_cli.core.data.loader import HostBatch


class Inputs:
    """The micro-batches of a step on the device, each step's in the place of the one's before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.held: list[HostBatch] = []

    def fill(self, hosts: list[HostBatch]) -> list[HostBatch]:
        """Bring the micro-batches of a step; returns where they lie, which is the same at every call."""
        self.held = self.held or self._like(hosts)
        self._bring(hosts)
        return self.held

    def _bring(self, hosts: list[HostBatch]) -> None:
        _copy(hosts, self.held)

    def _like(self, hosts: list[HostBatch]) -> list[HostBatch]:
        return [{name: torch.empty_like(x, device=self.device) for name, x in host.items()} for host in hosts]


class StagedInputs(Inputs):
    """On CUDA: they travel on a stream of their own while the device computes the step before.

    There are two places to arrive at, in turns. The host waits until the step before the last has taken what lay in its
    place: it is never more than two steps ahead.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.travel = torch.cuda.Stream(device)
        self.arrived: list[list[HostBatch]] = [[], []]
        self.taken = [torch.cuda.Event(blocking=True) for _ in range(2)]
        self.turn = 0

    def _bring(self, hosts: list[HostBatch]) -> None:
        turn = self.turn = 1 - self.turn
        self.taken[turn].synchronize()
        with torch.cuda.stream(self.travel):
            self.arrived[turn] = self.arrived[turn] or self._like(hosts)
            _copy(hosts, self.arrived[turn])
        computing = torch.cuda.current_stream()
        computing.wait_stream(self.travel)
        _copy(self.arrived[turn], self.held)
        self.taken[turn].record(computing)


def _copy(given: list[HostBatch], held: list[HostBatch]) -> None:
    """Every tensor to its place, without waiting."""
    for theirs, ours in zip(given, held, strict=True):
        pairs: list[tuple[Tensor, Tensor]] = [(ours[name], theirs[name]) for name in ours]
        for to, source in pairs:
            to.copy_(source, non_blocking=True)
