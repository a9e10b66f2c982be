"""CutMix of images, labels and pseudo-labels, within a micro-batch and with partners that are given."""

from __future__ import annotations

import numpy as np
import torch
from steps import labeled_of, pseudo_of

from semiseg_cli.core.types import CutMix

B, K, H, W = 2, 3, 4, 5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixing(own: bool) -> CutMix:
    mask, permutation = random(B, H, W, seed=2) > 0, torch.tensor([1, 0]) if own else None
    return CutMix(mask, permutation, mask, permutation)


def test_the_partner_is_inside_the_mask_only() -> None:
    image, partner, mix = random(B, 3, H, W), random(B, 3, H, W, seed=1), mixing(own=False)
    mixed = mix(image, partner)
    for b, y, x in np.ndindex(B, H, W):
        assert torch.equal(mixed[b, :, y, x], (partner if mix.mask_BHW[b, y, x] else image)[b, :, y, x])


def test_pseudo_labels_mix_as_the_images_do() -> None:
    """Label, confidence, valid and logits all come from the partner inside the mask."""
    valid = random(B, H, W, seed=5) > -1
    pseudo, mix = pseudo_of(random(B, K, H, W), valid), mixing(own=True)
    mixed = pseudo.mix(mix)
    for b, y, x in np.ndindex(B, H, W):
        source = 1 - b if mix.mask_BHW[b, y, x] else b
        for name in ("label_BHW", "conf_BHW", "valid_BHW"):
            assert getattr(mixed, name)[b, y, x] == getattr(pseudo, name)[source, y, x]
        assert torch.equal(mixed.logits_BKHW[b, :, y, x], pseudo.logits_BKHW[source, :, y, x])
    assert mixed.pixels == mixed.valid_BHW.sum()


def test_given_partners_bring_their_own_labels() -> None:
    ones = torch.ones(B, H, W, dtype=torch.bool)
    mine, theirs = pseudo_of(random(B, K, H, W), ones), pseudo_of(random(B, K, H, W, seed=1), ones)
    mix = mixing(own=False)
    assert torch.equal(mine.mix(mix, theirs).conf_BHW, torch.where(mix.mask_BHW, theirs.conf_BHW, mine.conf_BHW))
    a, b = labeled_of(torch.zeros(B, H, W, dtype=torch.long)), labeled_of(torch.ones(B, H, W, dtype=torch.long))
    assert torch.equal(a.mix(mix, b).mask_BHW, mix.mask_BHW.long())


def test_the_whole_step_is_mixed_along() -> None:
    """Of a divided step: the count is of all its images, and this micro-batch's own mix is part of it."""
    valid = random(4, H, W, seed=6) > 0
    mask, permutation = random(4, H, W, seed=2) > 0, torch.tensor([1, 0, 3, 2])
    part = CutMix(mask[:2], permutation[:2], mask, permutation)
    mixed, whole = part.both(valid[:2], valid[:2], valid, valid)
    assert torch.equal(whole[:2], mixed)
    assert torch.equal(whole, torch.where(mask, valid[permutation], valid))
