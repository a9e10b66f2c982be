"""First in, first out: features of every class that later steps compare with (STPG, proximity-guided sampling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassMemory(nn.Module):
    """A queue of at most `size` unit vectors for each class, in buffers, so that it is part of a run's state."""

    bank_KND: Tensor
    written_K: Tensor

    def __init__(self, classes: int, size: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("bank_KND", torch.zeros(classes, size, dimensions))
        self.register_buffer("written_K", torch.zeros(classes, dtype=torch.long))  # since the start

    @torch.no_grad()
    def push(self, vectors_KMD: Tensor, score_KM: Tensor, most: int) -> None:
        """Take in the `most` candidates of each class with the highest score, the highest first; the oldest leave.

        A score of -inf marks no candidate. At most `size` are taken.
        """
        size = self.bank_KND.shape[1]
        score, index = score_KM.topk(min(most, size, score_KM.shape[1]), dim=1)
        vectors = vectors_KMD.gather(1, _wide(index, vectors_KMD)).to(self.bank_KND)
        taken = score > -torch.inf
        place = _wide((self.written_K[:, None] + torch.arange(index.shape[1], device=index.device)) % size, vectors)
        self.bank_KND.scatter_(1, place, torch.where(taken[:, :, None], vectors, self.bank_KND.gather(1, place)))
        self.written_K += taken.sum(1)

    def means(self) -> Tensor:
        """The mean of what each queue holds, (K, D); zero for an empty one."""
        held = self.written_K.clamp(max=self.bank_KND.shape[1])
        return self.bank_KND.sum(1) / held.clamp(min=1)[:, None]


def _wide(index_KM: Tensor, like_KMD: Tensor) -> Tensor:
    return index_KM[:, :, None].expand(-1, -1, like_KMD.shape[2])
