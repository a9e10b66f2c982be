"""Patch masks: their ratios, exactly or over many draws, their shapes, and what is cut at the border."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steps import views_of
from torch import Tensor

from semiseg_cli.core.views.device import DeviceViews
from semiseg_cli.core.views.patches import BLOCKS, Kind, draw_patches, draws, grid_size, patch_mask


def drawn(kind: Kind, rows: int, cols: int, ratio: float, exact: bool, images: int = 64, seed: int = 0) -> np.ndarray:
    u = np.random.default_rng(seed).random((images, draws(kind, rows, cols)))
    return draw_patches(u, rows, cols, ratio, kind, exact)


def views(*slots: int, step: int = 0, size: tuple[int, int] = (33, 47)) -> DeviceViews:
    return views_of(slots, size, step=step)


@given(
    kind=st.sampled_from(["random", "block"]),
    rows=st.integers(1, 20),
    cols=st.integers(1, 20),
    ratio=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_exactly_so_many(kind: Kind, rows: int, cols: int, ratio: float, seed: int) -> None:
    masked = drawn(kind, rows, cols, ratio, True, 5, seed)
    assert masked.shape == (5, rows, cols)
    assert (masked.sum((1, 2)) == round(ratio * rows * cols)).all()


@given(rows=st.integers(2, 20), cols=st.integers(2, 20), ratio=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_whole_blocks_reach_the_ratio(rows: int, cols: int, ratio: float, seed: int) -> None:
    exact, whole = (drawn("block", rows, cols, ratio, flag, 5, seed) for flag in (True, False))
    assert (whole | ~exact).all()
    assert (whole.sum((1, 2)) >= round(ratio * rows * cols)).all()


def test_each_patch_by_itself_has_the_probability() -> None:
    masked = drawn("random", 17, 17, 0.7, False, 2000)
    counts = masked.sum((1, 2))
    assert abs(counts.mean() / 289 - 0.7) < 0.003  # five standard errors of 2,000 binomial means
    assert abs(counts.var() / (289 * 0.7 * 0.3) - 1) < 0.2
    assert np.abs(masked.mean(0) - 0.7).max() < 0.06  # everywhere alike


def test_an_exact_draw_has_no_favourites() -> None:
    masked = drawn("random", 9, 9, 0.4, True, 4000)
    assert np.abs(masked.mean(0) - 32 / 81).max() < 0.04
    pairs = (masked[:, 0, 0] & masked[:, 0, 1]).mean()
    assert abs(pairs - 32 / 81 * 31 / 80) < 0.03


def components(masked: np.ndarray) -> list[int]:
    """Sizes of the 4-connected regions of masked patches."""
    left, sizes = set(zip(*np.nonzero(masked), strict=True)), []
    while left:
        queue, size = deque([left.pop()]), 0
        while queue:
            y, x = queue.popleft()
            size += 1
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            queue.extend(near)
        sizes.append(size)
    return sizes


def test_blocks_hang_together() -> None:
    def largest(kind: Kind) -> float:
        return float(np.mean([max(components(grid)) for grid in drawn(kind, 14, 14, 0.4, True, 40)]))

    assert largest("block") > 40 > 1.5 * largest("random")  # of 78 masked patches


def test_blocks_do_not_run_out() -> None:
    """At the ratios of the papers a few blocks suffice; the bound is far away."""
    u = np.random.default_rng(1).random((300, 4 * BLOCKS))
    few = u.copy()
    few[:, 4 * 48 :] = 0
    assert np.array_equal(draw_patches(u, 17, 17, 0.7, "block"), draw_patches(few, 17, 17, 0.7, "block"))


def test_the_grid_keeps_one_of_four() -> None:
    masked = drawn("grid", 6, 8, 0.1, True, 2)
    assert masked.mean() == 0.75
    assert not masked[:, ::2, ::2].any()
    assert masked[:, 1::2].all()
    assert masked[:, :, 1::2].all()


@given(side=st.integers(1, 12), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 20))
def test_patches_are_squares_cut_at_the_border(side: int, height: int, width: int, seed: int) -> None:
    rows, cols = grid_size(height, width, side)
    grid = drawn("random", rows, cols, 0.5, False, 3, seed)
    mask = patch_mask(torch.from_numpy(grid), side, height, width)
    assert mask.dtype == torch.bool
    assert mask.shape == (3, height, width)
    for y in range(height):
        for x in range(width):
            assert mask[:, y, x].tolist() == grid[:, y // side, x // side].tolist()


@pytest.mark.parametrize("kind", ["random", "block", "grid"])
def test_one_key_is_one_draw_of_the_slot(kind: Kind) -> None:
    def mask(*slots: int, key: str = "a", step: int = 0) -> Tensor:
        return views(*slots, step=step).patches(key, 4, 0.5, kind)

    both = mask(0, 1)
    assert both.shape == (2, 33, 47)
    assert both.dtype == torch.bool
    assert torch.equal(both, mask(0, 1))
    assert torch.equal(both[1:], mask(1))
    if kind != "grid":
        assert not torch.equal(both[0], both[1])
        assert not torch.equal(both, mask(0, 1, key="b"))
        assert not torch.equal(both, mask(0, 1, step=1))


@pytest.mark.parametrize(("kind", "exact"), [("random", False), ("random", True), ("block", True)])
def test_the_ratio_holds_over_many_draws_with_cut_patches(kind: Kind, exact: bool) -> None:
    mask = views(*range(400), size=(35, 35)).patches("a", 8, 0.7, kind, exact)
    per_pixel = mask.float().mean(0)
    if kind == "random":
        assert abs(per_pixel.mean() - 0.7) < 0.03
        assert (per_pixel - 0.7).abs().max() < 0.12
    counted = mask[:, ::8, ::8].float().mean()  # a pixel of every patch, cut or not
    assert abs(counted - (18 / 25 if exact else 0.7)) < 0.03


def test_a_patch_as_large_as_the_image() -> None:
    assert views(0, size=(8, 8)).patches("a", 8, 0.4).sum() == 0
    assert views(0, size=(8, 8)).patches("a", 8, 0.6).all()
