"""Batch norm without side effects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def still_statistics(*modules: nn.Module) -> Iterator[None]:
    """Within it, batch norms in training mode use the batch's statistics but leave their running ones as they are."""
    norms = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
