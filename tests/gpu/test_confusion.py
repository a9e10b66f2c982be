"""The confusion matrix on CUDA: the same counts, without waiting for the device."""

from __future__ import annotations

import pytest
import torch

from semiseg_cli.core.ops.metrics import confusion

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_confusion_neither_differs_nor_waits() -> None:
    rng = torch.Generator().manual_seed(3)
    pred, label = (torch.randint(19, (2, 64, 64), generator=rng, dtype=torch.uint8) for _ in range(2))
    label[torch.rand(label.shape, generator=rng) < 0.3] = 255
    there = pred.cuda(), label.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = confusion(*there, 19)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), confusion(pred, label, 19))
