"""Complementary channel dropout (UniMatch V2): what it does to two views, however a batch is divided."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from steps import views_of
from torch import Tensor

from semiseg_cli.core.views.device import DeviceViews

WIDTHS = (32, 32, 64, 32)


def views(*slots: int, batch: int, step: int = 0) -> DeviceViews:
    return views_of(slots, (17, 17), step=step, batch=batch)


def factors(of: DeviceViews, key: str = "s", widths: tuple[int, ...] = WIDTHS) -> tuple[list[Tensor], list[Tensor]]:
    return of.complementary(key, [torch.zeros(1, width, 2, 2) for width in widths])


def whole(batch: int, step: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    return factors(views(*range(batch), batch=batch, step=step))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 16])
def test_two_views_share_the_channels_and_half_of_the_images_keep_all(batch: int) -> None:
    for step in range(5):
        first, second = whole(batch, step)
        for one, other, width in zip(first, second, WIDTHS, strict=True):
            assert one.shape == other.shape == (batch, width, 1, 1)
            assert torch.equal(one + other, torch.full_like(one, 2.0))
            spared = (one == 1).all(1).flatten()
            assert spared.sum() == batch // 2
            assert {*one[~spared].unique().tolist()} == {0.0, 2.0}


def test_maps_of_one_width_drop_the_same_channels_and_images_others() -> None:
    (a, b, wider, d), _ = whole(4)
    assert a is b is d
    assert not torch.equal(wider[:, :32], a)
    dropped = a[(a != 1).any(1).flatten()]
    assert not torch.equal(dropped[0], dropped[1])


def test_it_is_fair_over_the_steps() -> None:
    drawn = [whole(4, step)[0][0] for step in range(300)]
    spared = torch.stack([(one == 1).all(1).flatten() for one in drawn]).float()
    assert spared.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.1)
    pairs = {tuple(np.flatnonzero(row)) for row in spared}
    assert len(pairs) == 6  # any two of four
    channels = torch.cat([one[(one != 1).any(1).flatten()] for one in drawn])
    assert channels.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("parts", [[(0, 1), (2, 3), (4,)], [(0,), (1,), (2,), (3,), (4,)], [(1, 3), (0, 2, 4)]])
def test_an_image_has_its_channels_however_the_batch_is_divided(parts: list[tuple[int, ...]]) -> None:
    together = whole(5, step=3)
    for slots in parts:
        apart = factors(views(*slots, batch=5, step=3))
        for one, other in zip(together, apart, strict=True):
            assert all(torch.equal(a[list(slots)], b) for a, b in zip(one, other, strict=True))


def test_a_seed_repeats_and_steps_and_keys_differ() -> None:
    (one, *_), _ = whole(6)
    assert torch.equal(one, whole(6)[0][0])
    assert not torch.equal(one, whole(6, step=1)[0][0])
    assert not torch.equal(one, factors(views(*range(6), batch=6), "other")[0][0])
