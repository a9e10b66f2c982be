"""The cheap class-wise convolution against the literal one: K maps, K convolutions, one sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from semiseg_cli.core.methods.s4mim.classwise import class_convolution, class_linear, one_hot
from semiseg_cli.core.ops.register import sample

CLASSES, CHANNELS = 5, 6


def literal(x: Tensor, group: Tensor, weight: Tensor) -> Tensor:
    """Equations 6 and 7 as they are printed."""
    r = torch.zeros(len(x), weight.shape[1], *x.shape[2:], dtype=x.dtype)
    for k in range(len(weight)):
        r = r + F.conv2d(x * (group == k)[:, None], weight[k], padding=1)
    return r


def example(seed: int = 0, size: tuple[int, int] = (9, 7), dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Features, groups in patches as objects are (class 2 has no pixel), weights."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(3, CHANNELS, *size, generator=rng, dtype=dtype)
    coarse = torch.tensor([0, 1, 3, 4])[torch.randint(0, 4, (3, 4, 4), generator=rng)]
    group = sample(coarse.repeat_interleave(3, 1).repeat_interleave(3, 2), size)
    weight = torch.randn(CLASSES, 3, CHANNELS, 3, 3, generator=rng, dtype=dtype)
    return [x, group, weight]


@pytest.mark.parametrize("nhwc", [False, True])
def test_values_and_gradients_are_the_literal_ones(nhwc: bool) -> None:
    x, group, weight = example()
    if nhwc:
        x = x.contiguous(memory_format=torch.channels_last)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    mine, theirs = class_convolution(x, group, weight), literal(x, group, weight)
    assert torch.allclose(mine, theirs, atol=1e-5)
    upstream = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(
        torch.autograd.grad(mine, (x, weight), upstream),
        torch.autograd.grad(theirs, (x, weight), upstream),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))
        assert b.any()
    assert not torch.autograd.grad(class_convolution(x, group, weight).sum(), weight)[0][2].any()  # class 2 is absent


def test_in_float64_it_stays_in_float64() -> None:
    x, group, weight = example(2, dtype=torch.float64)
    assert torch.allclose(class_convolution(x, group, weight), literal(x, group, weight), rtol=1e-12, atol=1e-12)


def test_a_matrix_that_is_not_square_and_one_class_only() -> None:
    x, _, weight = example(3, (1, 8))
    group = torch.full((3, 1, 8), 4)
    assert torch.allclose(class_convolution(x, group, weight), literal(x, group, weight), atol=1e-5)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 9))
def test_rows_meet_the_matrix_of_their_class(classes: list[int], block: int) -> None:
    rng = torch.Generator().manual_seed(len(classes))
    x = torch.randn(len(classes), 3, generator=rng, dtype=torch.float64)
    weight = torch.randn(5, 2, 3, generator=rng, dtype=torch.float64)
    expected = torch.stack([weight[k] @ row for k, row in zip(classes, x, strict=True)])
    assert torch.allclose(class_linear(x, torch.tensor(classes), weight, block), expected, rtol=1e-12)


def test_it_costs_little_more_than_one_class() -> None:
    """21 classes of 256 channels: no map of all classes, no arithmetic of all classes."""
    classes, pixels = 21, 4 * 40 * 40
    x, group = torch.randn(4, 256, 40, 40), torch.randint(0, classes, (4, 40, 40))
    weight = torch.randn(classes, 3, 256, 3, 3)
    with FlopCounterMode(display=False) as counter:
        class_convolution(x, group, weight)
    assert counter.get_total_flops() < 1.45 * 2 * pixels * 256 * 27  # 6,400 pixels in blocks of 128: 50 + 21 blocks


def test_half_precision_products_are_added_up_in_float32() -> None:
    x, group, weight = example()
    with torch.autocast("cpu", torch.bfloat16):
        r = class_convolution(x, group, weight)
    assert r.dtype == torch.float32
    assert torch.allclose(r, literal(x, group, weight), atol=0.3)


def test_one_hot() -> None:
    group, weight = torch.tensor([[[0, 2], [2, 1]]]), torch.tensor([[[0.5, 1.0], [0.0, 0.25]]])
    expected = F.one_hot(group, 3).permute(0, 3, 1, 2) * weight[:, None]
    assert torch.equal(one_hot(group, 3, weight), expected)
