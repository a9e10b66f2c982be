"""Losses against loops in float64 that visit one pixel at a time."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steps import pseudo_of
from torch import Tensor

from semiseg_cli.core.ops.losses import (
    at_least,
    by_confidence,
    cross_entropy,
    more_than,
    ohem,
    ohem_min_kept,
    pseudo_label_loss,
    pseudo_stats,
)
from semiseg_cli.core.types import Pseudo

B, K, H, W = 2, 4, 5, 6


def random_logits(seed: int) -> Tensor:
    return 3 * torch.randn(B, K, H, W, generator=torch.Generator().manual_seed(seed))


def random_mask(seed: int, ignored: float = 0.3) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.where(rng.random((B, H, W)) < ignored, 255, rng.integers(0, K, (B, H, W))))


def random_pseudo(seed: int) -> Pseudo:
    valid = torch.rand(B, H, W, generator=torch.Generator().manual_seed(seed + 1)) < 0.7
    return pseudo_of(random_logits(seed + 100), valid)


def pixel_loss(logits_K: Tensor, label: int) -> float:
    """Cross-entropy of one pixel."""
    values = logits_K.double().tolist()
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values)) - values[label]


def pixels(mask: Tensor) -> list[tuple[int, int, int]]:
    return [(b, y, x) for b in range(B) for y in range(H) for x in range(W) if mask[b, y, x] != 255]


def kept_by(loss: Tensor, logits: Tensor) -> set[tuple[int, int, int]]:
    """Pixels that a loss has a gradient at."""
    (gradient,) = torch.autograd.grad(loss, logits)
    return {tuple(index) for index in gradient.abs().sum(1).nonzero().tolist()}


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0], [1.0, 0.0, 2.0, 1.0]])
@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_is_the_weighted_mean_over_labeled_pixels(seed: int, weights: list[float] | None) -> None:
    logits, mask = random_logits(seed), random_mask(seed)
    share = weights or [1.0] * K
    total = sum(share[mask[p]] * pixel_loss(logits[p[0], :, p[1], p[2]], int(mask[p])) for p in pixels(mask))
    expected = total / sum(share[mask[p]] for p in pixels(mask))
    found = cross_entropy(logits, mask, torch.tensor(weights) if weights else None)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_another_label_can_mean_ignore() -> None:
    logits, mask = random_logits(0), random_mask(0)
    assert cross_entropy(logits, mask.where(mask != 255, -1), ignore=-1) == cross_entropy(logits, mask)


@pytest.mark.parametrize("weights", [None, torch.ones(K)])
def test_losses_of_nothing_are_zero_and_teach_nothing(weights: Tensor | None) -> None:
    mask = torch.full((B, H, W), 255)
    logits = random_logits(0).requires_grad_()
    for loss in (cross_entropy(logits, mask, weights), ohem(logits, mask, weights, min_kept=5)):
        assert loss.item() == 0
        assert kept_by(loss, logits) == set()


def test_only_an_absent_class_is_left_to_learn() -> None:
    """A class of weight 0 (no labeled pixel when the weights were made) does not give 0/0."""
    logits = random_logits(0).requires_grad_()
    loss = cross_entropy(logits, torch.ones(B, H, W, dtype=torch.long), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert loss.item() == 0
    assert kept_by(loss, logits) == set()


@given(st.integers(0, 50), st.integers(1, 2 * B * H * W), st.sampled_from([0.05, 0.3, 0.7, 0.99]), st.floats(0, 0.95))
def test_ohem_keeps_the_hard_pixels(seed: int, min_kept: int, threshold: float, ignored: float) -> None:
    logits, mask = random_logits(seed).requires_grad_(), random_mask(seed, ignored)
    losses = {p: pixel_loss(logits[p[0], :, p[1], p[2]], int(mask[p])) for p in pixels(mask)}
    ranked = sorted(math.exp(-loss) for loss in losses.values())
    limit = max(threshold, ranked[min_kept - 1]) if min_kept <= len(ranked) else 1.0
    kept = {p for p, loss in losses.items() if math.exp(-loss) <= limit + 1e-7}
    found = ohem(logits, mask, threshold=threshold, min_kept=min_kept)
    assert found.item() == pytest.approx(sum(losses[p] for p in kept) / max(len(kept), 1), rel=1e-4, abs=1e-6)
    assert kept_by(found, logits) == kept


def test_ohem_weighs_what_it_keeps_by_class() -> None:
    """Which pixels are hard is a matter of their probability alone."""
    logits, mask, weights = random_logits(5).requires_grad_(), random_mask(5), [0.5, 1.0, 0.25, 4.0]
    found = ohem(logits, mask, torch.tensor(weights), threshold=0.3, min_kept=9)
    kept = kept_by(ohem(logits, mask, threshold=0.3, min_kept=9), logits)
    weighted = sum(weights[int(mask[p])] * pixel_loss(logits[p[0], :, p[1], p[2]], int(mask[p])) for p in kept)
    assert found.item() == pytest.approx(weighted / sum(weights[int(mask[p])] for p in kept), rel=1e-5)
    assert len(kept) < len(pixels(mask))


def test_ohem_with_too_few_labels_is_plain_cross_entropy() -> None:
    logits, mask = random_logits(3), random_mask(3)
    found = ohem(logits, mask, min_kept=int((mask != 255).sum()) + 1)
    assert found.item() == pytest.approx(cross_entropy(logits, mask).item(), rel=1e-6)


def test_ohem_keeps_fewer_pixels_than_there_are() -> None:
    logits = random_logits(3).requires_grad_()
    found = ohem(logits, random_mask(3), threshold=1e-6, min_kept=7)
    assert len(kept_by(found, logits)) == 7


@pytest.mark.parametrize(("crops", "side", "kept"), [(2, 801, 200_000), (8, 801, 800_000), (8, 321, 128_479)])
def test_min_kept_goes_with_the_area_of_the_batch(crops: int, side: int, kept: int) -> None:
    assert ohem_min_kept(crops, side, side) == kept


def loop_loss(logits: Tensor, pseudo: Pseudo, tau: float, weight: str, normaliser: str) -> float:
    """methods.md, section 1: sum(w CE) / count(valid), or per image by its own weights, then the mean of the images."""
    sums, weights, valid = [0.0] * B, [0.0] * B, 0
    for b, y, x in np.ndindex(B, H, W):
        if pseudo.valid_BHW[b, y, x]:
            valid += 1
            conf = pseudo.conf_BHW[b, y, x].item()
            w = conf if weight == "confidence" else float(conf >= tau)
            sums[b] += w * pixel_loss(logits[b, :, y, x], int(pseudo.label_BHW[b, y, x]))
            weights[b] += w
    if normaliser == "valid":
        return sum(sums) / max(valid, 1)
    return sum(s / w if w else 0.0 for s, w in zip(sums, weights, strict=True)) / B


@pytest.mark.parametrize("normaliser", ["valid", "image"])
@pytest.mark.parametrize("weight", ["threshold", "confidence"])
@pytest.mark.parametrize("padding", ["some", "one image", "everything"])
@pytest.mark.parametrize("tau", [0.0, 0.8, 1.0])
def test_pseudo_label_loss(
    padding: str, weight: Literal["threshold", "confidence"], normaliser: Literal["valid", "image"], tau: float
) -> None:
    logits, pseudo = random_logits(1).requires_grad_(), random_pseudo(1)
    if padding != "some":
        pseudo.valid_BHW[0 if padding == "one image" else slice(None)] = False
    kept = by_confidence(pseudo) if weight == "confidence" else at_least(pseudo, tau)
    found = pseudo_label_loss(logits, pseudo, kept, normaliser)
    assert found.item() == pytest.approx(loop_loss(logits, pseudo, tau, weight, normaliser), rel=1e-5, abs=1e-7)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.isfinite().all()
    assert not gradient.permute(0, 2, 3, 1)[~pseudo.valid_BHW].any()


def test_pseudo_labels_are_constants() -> None:
    source = random_logits(0).requires_grad_()
    pseudo = pseudo_of(source, torch.ones(B, H, W, dtype=torch.bool))
    assert not pseudo.logits_BKHW.requires_grad
    assert not pseudo.conf_BHW.requires_grad
    assert torch.equal(pseudo.label_BHW, source.argmax(1))
    expected = (source.double().exp() / source.double().exp().sum(1, keepdim=True)).amax(1)
    assert torch.allclose(pseudo.conf_BHW.double(), expected, atol=1e-6)


def test_confidence_is_finer_than_bfloat16() -> None:
    """0.95 lies between two neighbours in bfloat16; the threshold must not."""
    logits = torch.tensor([[2.95, 0.0], [2.94, 0.0]]).T.reshape(1, 2, 1, 2).bfloat16()
    assert pseudo_of(logits, torch.ones(1, 1, 2, dtype=torch.bool)).conf_BHW.dtype == torch.float32
    assert cross_entropy(logits, torch.zeros(1, 1, 2, dtype=torch.long)).dtype == torch.float32


def test_tau_itself_is_confident_enough() -> None:
    logits = torch.zeros(1, 2, 1, 2)  # confidence is exactly one half
    pseudo = pseudo_of(logits, torch.tensor([[[True, False]]]))
    assert at_least(pseudo, 0.5).tolist() == [[[1.0, 0.0]]]
    assert at_least(pseudo, 0.51).tolist() == [[[0.0, 0.0]]]
    assert by_confidence(pseudo).tolist() == [[[0.5, 0.0]]]
    assert more_than(pseudo, 0.5).tolist() == [[[0.0, 0.0]]]


def test_stats_count_valid_kept_pixels() -> None:
    label = torch.tensor([[[0, 0, 1, 2, 2, 2]]])
    valid = torch.tensor([[[True, True, True, True, True, False]]])
    pseudo = Pseudo(label, torch.ones(1, 1, 6), valid, torch.zeros(1, 3, 1, 6), valid)
    stats = pseudo_stats(pseudo, torch.tensor([[[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]]))
    assert stats["kept"].item() == pytest.approx(3 / 5)
    assert stats["largest_class"].item() == pytest.approx(2 / 3)
    assert stats["kept_classes"].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    nothing = pseudo_stats(pseudo, torch.zeros(1, 1, 6))
    assert nothing["kept"].item() == nothing["largest_class"].item() == 0
