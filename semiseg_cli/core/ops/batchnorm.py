"""Batch norm without a counter, and without side effects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, but that it leaves `num_batches_tracked` as it is.

    Nothing reads that count where there is a momentum, and counting is a tenth of all kernels that a step launches.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.batch_norm(
            x_BCHW, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=self.momentum or 0.0, eps=self.eps,
        )  # fmt: skip


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


@contextmanager
def frozen_statistics(*modules: nn.Module) -> Iterator[None]:
    """Within it, batch norms in training mode use the batch's statistics but leave their running ones as they are."""
    norms = [norm for module in modules for norm in batch_norms(module)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within it, a module in training mode is in evaluation mode."""
    module.eval()
    try:
        yield
    finally:
        module.train()
