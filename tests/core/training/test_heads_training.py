"""The labels a head is compared with, and its training against the same sums written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from semiseg_cli.core.errors import Diverged
from semiseg_cli.core.models.decoders.heads import MLP
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.heads import Example, fit_head, sampled

ONE = TrainConfig(
    steps=1, batch=2, optimizer="adamw", lr=1e-3, head_lr_multiplier=1.0, weight_decay=0.0, class_weights="sqrt"
)


def test_labels_are_those_of_the_places_that_logits_have() -> None:
    mask = torch.arange(28 * 42, dtype=torch.uint8).reshape(28, 42)
    assert torch.equal(sampled(mask, (28, 42), patches=False), mask[::4, ::4].long())
    patches = sampled(mask, (28, 42), patches=True)
    assert patches.shape == (7, 10)
    assert torch.equal(patches[:, 0], mask[2::4, 2].long())  # of pixels 0 to 3 the one right of the middle
    halves = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)  # a mask twice as large as what is seen
    assert torch.equal(sampled(halves, (28, 42), patches=False), mask[::4, ::4].long())


def test_one_step_follows_the_mean_over_the_labeled_places_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    head = MLP((3, 2), (4, 8), 3)
    examples = []
    for h, w in ((32, 48), (16, 24)):
        maps = [torch.randn(1, c, h // s, w // s, generator=generator).half() for c, s in ((3, 4), (2, 8))]
        label = torch.randint(0, 4, (h // 4, w // 4), generator=generator)
        examples.append(Example(maps, label.where(label < 3, 255)))
    weight = torch.tensor([0.5, 1.0, 1.5])
    found = fit_head(head, examples, replace(ONE, lr=1e-12), weight)
    logits, labels = [], []
    for example in examples:
        out = head([x.float() for x in example.maps], (example.label_hw.shape[0] * 4, example.label_hw.shape[1] * 4))
        logits.append(out.logits_BKHW[0, :, ::4, ::4].flatten(1).T)
        labels.append(example.label_hw.flatten())
    expected = F.cross_entropy(torch.cat(logits), torch.cat(labels), weight, ignore_index=255)
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_head_that_diverges_is_told() -> None:
    maps = [torch.randn(1, 3, 4, 4), torch.randn(1, 2, 2, 2)]
    examples = [Example(maps, torch.full((4, 4), 1))]
    with pytest.raises(Diverged, match="after 1 steps"):
        fit_head(MLP((3, 2), (4, 8), 3), examples, ONE, torch.tensor([1.0, float("inf"), 1.0]))
