"""The projection head of the students and of Gen-Teacher (STPG, section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.methods.stpg.hashing import less_than, of_places
from semiseg_cli.core.types import at_least_float32

DROPOUT = 0.1


class Projection(nn.Module):
    """Conv-ReLU-dropout-conv with 1x1 convolutions, on rows of pixels: (P, channels) to unit vectors (P, dimensions).

    seed: its first weights depend on it alone.
    """

    def __init__(self, channels: int, dimensions: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.hidden, self.out = nn.Linear(channels, channels), nn.Linear(channels, dimensions)

    def forward(self, pixels_PC: Tensor, number_P: Tensor | None = None) -> Tensor:
        """number: a random one of each pixel (`hashing`), from which its dropout follows; None: no dropout."""
        hidden = F.relu(self.hidden(pixels_PC))
        if number_P is not None:
            dropped = less_than(of_places(number_P, hidden.shape[1]), DROPOUT)
            hidden = hidden.masked_fill(dropped, 0.0) / (1 - DROPOUT)
        return F.normalize(at_least_float32(self.out(hidden)), dim=-1)
