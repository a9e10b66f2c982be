"""Enlarging in register: value i of a map of stride s stays at pixel s i, whatever the size of the image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from semiseg_cli.core.ops.register import STRIDES, enlarge, sample, stride_between

SIDES = st.integers(1, 90)


def coarse(side: int, stride: int) -> int:
    """Values that convolutions with padding, a stride of 2 each, make of a side."""
    while stride > 1:
        side, stride = (side + 1) // 2, stride // 2
    return side


@given(SIDES, SIDES, st.sampled_from(STRIDES))
def test_the_stride_is_told_from_the_sizes(height: int, width: int, stride: int) -> None:
    sides = coarse(height, stride), coarse(width, stride)
    found = stride_between(sides, (height, width))
    assert found == stride or max(sides) == 1  # of a single value any stride is true


def test_sides_of_convolutions() -> None:
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(4)])
    for side in range(33, 50):
        assert tuple(net(torch.zeros(1, 1, side, 40)).shape[2:]) == (coarse(side, 16), coarse(40, 16))


def test_no_stride_makes_these() -> None:
    assert stride_between((7, 9), (40, 40)) is None


@given(SIDES, SIDES, st.sampled_from(STRIDES))
def test_every_value_stays_at_its_pixel_and_the_last_reach_the_border(height: int, width: int, stride: int) -> None:
    rows, columns = coarse(height, stride), coarse(width, stride)
    y, x = torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64)
    ramp = (2 * y[:, None] - 3 * x) * stride  # at pixel (y, x): 2 y - 3 x
    out = enlarge(ramp[None, None], (height, width))
    last_y, last_x = stride * (rows - 1), stride * (columns - 1)
    at_y = torch.arange(height, dtype=torch.float64).clamp(max=last_y)
    at_x = torch.arange(width, dtype=torch.float64).clamp(max=last_x)
    torch.testing.assert_close(out[0, 0], 2 * at_y[:, None] - 3 * at_x)
    assert torch.equal(sample(out[:, 0], (rows, columns))[0], ramp)


@pytest.mark.parametrize("stride", [4, 16])
def test_at_16n_plus_1_it_is_the_fields_with_aligned_corners(stride: int) -> None:
    side = 16 * 5 + 1
    x = torch.randn(2, 3, coarse(side, stride), coarse(33, stride), generator=torch.Generator().manual_seed(0))
    assert torch.equal(enlarge(x, (side, 33)), F.interpolate(x, (side, 33), mode="bilinear", align_corners=True))


def test_of_scaled_images_the_corners_are_aligned() -> None:
    x = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(enlarge(x, (40, 40)), F.interpolate(x, (40, 40), mode="bilinear", align_corners=True))
    pixels = torch.arange(40 * 40).view(1, 40, 40)
    assert sample(pixels, (7, 9))[0, -1, -1] == 40 * 40 - 1


def test_the_gradient_of_the_border_goes_to_the_last_value() -> None:
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    enlarge(x, (8, 8)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == 64
    assert x.grad[0, 0, 1, 1] > x.grad[0, 0, 0, 0]
