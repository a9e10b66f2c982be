"""Hashed numbers: one to one, uniform, and unrelated between images, places and channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg_cli.core.methods.stpg.hashing import from_uniform, less_than, of_places, scrambled

IMAGES, PLACES, CHANNELS = 4, 500, 64


def chain(seed: int) -> Tensor:
    """As a step uses it: numbers of images, of their pixels, of every channel of each; (IMAGES, PLACES, CHANNELS)."""
    number_B = torch.from_numpy(from_uniform(np.random.default_rng(seed).random(IMAGES)))
    number_P = of_places(number_B, PLACES).flatten()
    return of_places(number_P, CHANNELS).view(IMAGES, PLACES, CHANNELS)


def test_it_is_the_published_hash() -> None:
    def reference(x: int) -> int:
        x = ((x ^ x >> 16) * 0x7FEB352D) % 2**32
        x = ((x ^ x >> 15) * 0x846CA68B) % 2**32
        return x ^ x >> 16

    values = [0, 1, 2, 12345, 2**31 - 1, -(2**31), -1]
    assert [x % 2**32 for x in scrambled(torch.tensor(values, dtype=torch.int32)).tolist()] == [
        reference(x % 2**32) for x in values
    ]


def test_it_is_one_to_one() -> None:
    x = torch.arange(-(2**31), 2**31, 4099).int()
    assert len(scrambled(x).unique()) == len(x)
    assert from_uniform(np.array([0.0, 0.5, 1 - 2**-53])).tolist() == [-(2**31), 0, 2**31 - 1]


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_uniform(seed: int) -> None:
    found = chain(seed)
    count = torch.bincount((found >> 26).flatten() + 32, minlength=64).double()
    expected = found.numel() / 64
    assert ((count - expected) ** 2 / expected).sum() < 120  # chi square of 63 degrees: 1 in 20,000
    bits = torch.stack([(found >> bit) & 1 for bit in range(32)]).double()
    assert (bits.mean((1, 2, 3)) - 0.5).abs().max() < 0.007


@pytest.mark.parametrize("seed", range(3))
def test_dropout_is_unrelated_between_pixels_channels_images_and_steps(seed: int) -> None:
    """Every two rows agree as often as independent ones: correlations of 1 / sqrt(n), none far out."""
    dropped = less_than(torch.cat([chain(seed), chain(seed + 10)]), 0.1).double()
    assert dropped.mean().item() == pytest.approx(0.1, abs=0.002)
    for rows in (dropped.transpose(1, 2).flatten(0, 1), dropped.flatten(2)[:, :64].flatten(0, 1)):
        correlation = torch.corrcoef(rows)
        correlation = correlation[~torch.eye(len(correlation), dtype=torch.bool)].nan_to_num()
        assert correlation.mean().abs() < 0.002
        assert correlation.std().item() == pytest.approx(rows.shape[1] ** -0.5, rel=0.1)
    by_pixel = dropped.mean(2).flatten()
    assert by_pixel.std().item() == pytest.approx((0.09 / CHANNELS) ** 0.5, rel=0.05)


def test_pixels_that_are_drawn_drop_out_as_others_do() -> None:
    """A pixel is drawn for its small number, and its dropout follows from the same: that must not show."""
    number_P = of_places(torch.tensor([17, 4711], dtype=torch.int32), 20_000).flatten()
    drawn = number_P[number_P.argsort()[:400]]
    dropped = less_than(of_places(drawn, CHANNELS), 0.1)
    assert dropped.double().mean().item() == pytest.approx(0.1, abs=0.006)
    assert dropped.double().mean(0).std().item() == pytest.approx((0.09 / 400) ** 0.5, rel=0.3)


def test_every_pixel_has_its_chance() -> None:
    first = torch.stack([of_places(torch.from_numpy(from_uniform(np.random.default_rng(i).random(1))), 6)[0].argmin()
                         for i in range(600)])  # fmt: skip
    assert torch.bincount(first, minlength=6).tolist() == pytest.approx([100] * 6, rel=0.35)
