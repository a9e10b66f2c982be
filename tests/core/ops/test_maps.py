"""Channel dropout, concatenation of maps."""

from __future__ import annotations

import torch

from semiseg_cli.core.ops.maps import cat_maps, drop_channels

B, K, H, W = 2, 3, 4, 5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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
