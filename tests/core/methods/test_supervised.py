"""The strong augmentation of the labeled images: their labels go with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from steps import whole_step
from torch import Tensor

from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock, Labeled
from semiseg_cli.core.views.device import ViewSettings


def test_labels_follow_the_images_through_cutmix(
    train_module: Callable[..., Train], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, side = 8, 33
    train = train_module("supervised", strong=True)
    train.view_settings = ViewSettings()  # without colours: an image still shows its labels
    mask = torch.arange(count)[:, None, None].expand(count, side, side) % 4
    image = (mask * 60).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
    host = {
        "labeled_image": image.contiguous(), "labeled_mask": mask.to(torch.uint8),
        "labeled_valid": torch.ones(count, side, side, dtype=torch.uint8), "labeled_index": torch.arange(count),
    }  # fmt: skip
    seen: list[Tensor] = []
    train.method.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))

    def loss(logits: Tensor, labeled: Labeled) -> Tensor:
        seen.append(labeled.mask_BHW)
        return logits.sum()

    monkeypatch.setattr(train.method.build, "labeled_loss", loss)
    whole_step(train, host, Clock(0, 1))
    x, labels = seen
    shown = (x * train.std[:, None, None] + train.mean[:, None, None]) * 255 / 60
    assert torch.allclose(shown, labels[:, None].float().expand_as(shown), atol=1e-3)
    assert not torch.equal(labels, mask)  # something was mixed
