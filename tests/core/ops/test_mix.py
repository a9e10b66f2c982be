"""CutMix of images and of pseudo-labels, channel dropout, concatenation of maps."""

from __future__ import annotations

import numpy as np
import torch

from semiseg_cli.core.ops.mix import cat_maps, cutmix, drop_channels
from semiseg_cli.core.types import Pseudo

B, K, H, W = 2, 3, 4, 5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_partner_is_inside_the_box_only() -> None:
    image, partner, box = random(B, 3, H, W), random(B, 3, H, W, seed=1), random(B, H, W, seed=2) > 0
    mixed = cutmix(image, partner, box)
    for b, y, x in np.ndindex(B, H, W):
        assert torch.equal(mixed[b, :, y, x], (partner if box[b, y, x] else image)[b, :, y, x])


def test_pseudo_labels_mix_as_the_images_do() -> None:
    """Label, confidence, valid and logits all come from the partner inside the box."""
    valid = random(B, H, W, seed=5) > -1
    pseudo, box = Pseudo.of(random(B, K, H, W), valid), random(B, H, W, seed=2) > 0
    order = torch.tensor([1, 0])
    mixed = pseudo.mix(pseudo.take(order), box)
    for b, y, x in np.ndindex(B, H, W):
        source = 1 - b if box[b, y, x] else b
        for name in ("label_BHW", "conf_BHW", "valid_BHW"):
            assert getattr(mixed, name)[b, y, x] == getattr(pseudo, name)[source, y, x]
        assert torch.equal(mixed.logits_BKHW[b, :, y, x], pseudo.logits_BKHW[source, :, y, x])


def test_dropped_channels_vanish_and_the_others_grow() -> None:
    maps = [random(B, 4, H, W), random(B, 2, 2, 3, seed=1).bfloat16()]
    factors = [torch.tensor([[0.0, 2, 0, 2], [2, 2, 2, 0]])[:, :, None, None], torch.full((B, 2, 1, 1), 2.0)]
    dropped = drop_channels(maps, factors)
    assert not dropped[0][0, 0].any()
    assert torch.equal(dropped[0][0, 1], 2 * maps[0][0, 1])
    assert dropped[1].dtype == torch.bfloat16
    assert torch.equal(dropped[1], 2 * maps[1])


def test_maps_are_joined_along_the_batch() -> None:
    a, b = [random(2, 3, 4, 4), random(2, 5, 2, 2)], [random(1, 3, 4, 4, seed=1), random(1, 5, 2, 2, seed=1)]
    joined = cat_maps(a, b)
    assert [tuple(m.shape) for m in joined] == [(3, 3, 4, 4), (3, 5, 2, 2)]
    assert torch.equal(joined[1][2], b[1][0])
