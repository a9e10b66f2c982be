"""Windows, scales and flips against naive loops in float64."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.inference.sliding import predict, spans, windows
from semiseg_cli.core.ops.sizes import fit_side


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(6), nn.ReLU(), last).double().eval()


def images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def naive(net: nn.Module, image_3HW: Tensor, window: int, step: int) -> Tensor:
    """One window at a time, the last of each direction at the border; every pixel divided by its own count."""
    height, width = image_3HW.shape[1:]
    total = torch.zeros(4, height, width, dtype=torch.float64)
    count = torch.zeros(height, width, dtype=torch.float64)
    tops = [*range(0, max(height - window, 0), step), max(height - window, 0)]
    lefts = [*range(0, max(width - window, 0), step), max(width - window, 0)]
    for top in tops:
        for left in lefts:
            part = image_3HW[:, top : top + window, left : left + window]
            probs = net(part[None])[0].exp()
            probs = probs / probs.sum(0)
            for y in range(part.shape[1]):
                for x in range(part.shape[2]):
                    total[:, top + y, left + x] += probs[:, y, x]
                    count[top + y, left + x] += 1
    return total / count


def test_windows_of_cityscapes() -> None:
    """As many as in the field's protocol, at its steps, the last moved back to the border."""
    groups = windows(1024, 2048, 801, 2 / 3)
    assert groups == {(801, 801): [(top, left) for top in (0, 223) for left in (0, 534, 1068, 1247)]}


def test_small_and_exact_sides() -> None:
    assert spans(50, 801, 2 / 3) == [(0, 50)]
    assert spans(801, 801, 2 / 3) == [(0, 801)]
    assert spans(802, 801, 2 / 3) == [(0, 801), (1, 802)]
    assert spans(30, 10, 1.0) == [(0, 10), (10, 20), (20, 30)]
    assert spans(3, 1, 0.1) == [(0, 1), (1, 2), (2, 3)]


@given(side=st.integers(1, 3000), window=st.integers(1, 1000), stride=st.sampled_from([2 / 3, 0.5, 1.0, 1 / 3, 0.29]))
def test_windows_cover_every_pixel_and_end_at_the_border(side: int, window: int, stride: float) -> None:
    found = spans(side, window, stride)
    step = max(1, int(window * stride + 1e-6))
    assert found[0][0] == 0
    assert found[-1][1] == side
    assert all(end - begin == min(window, side) for begin, end in found)
    assert all(b[0] - a[0] == step for a, b in pairwise(found[:-1]))
    assert all(0 < b[0] - a[0] <= step and b[0] <= a[1] for a, b in pairwise(found))


def test_windows_of_unimatch_v2_on_cityscapes() -> None:
    """Patches of 14: 798 for 801, steps of 532, and the last windows moved back to the border."""
    (corners,) = windows(1024, 2048, 801, 2 / 3, multiple=14).values()
    assert corners == [(top, left) for top in (0, 226) for left in (0, 532, 1064, 1250)]


@given(side=st.integers(1, 800), window=st.integers(1, 900), multiple=st.sampled_from([14, 16, 32]))
def test_windows_are_multiples_where_the_image_is_large_enough(side: int, window: int, multiple: int) -> None:
    found = spans(side, window, 2 / 3, multiple)
    whole = fit_side(window, multiple)
    assert found[0][0] == 0
    assert found[-1][1] == side
    assert [end - begin for begin, end in found] == [min(whole, side)] * len(found)
    assert all(a[0] < b[0] <= a[1] for a, b in pairwise(found))


@pytest.mark.parametrize("size", [(23, 37), (12, 12), (9, 30), (5, 6), (13, 25)])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_sliding_equals_a_naive_loop(net: nn.Module, size: tuple[int, int], batch: int) -> None:
    pair = images(2, *size)
    found = predict(net, pair, window=12, stride=2 / 3, batch=batch)
    wanted = torch.stack([naive(net, image, 12, 8) for image in pair])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_windows_of_equal_shape_share_forwards(net: nn.Module) -> None:
    shapes = []
    predict(lambda x: shapes.append(tuple(x.shape)) or net(x), images(2, 20, 26), window=12, batch=4)
    assert shapes == [(4, 3, 12, 12)] * 3


@pytest.mark.parametrize("stride", [1.0, 2 / 3])
def test_the_last_window_has_the_context_of_the_others(stride: float) -> None:
    """A network that judges a pixel by the 9x9 around it, on images one pixel larger than a window or two."""
    blur = nn.Conv2d(3, 2, 9, padding=4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        blur.weight.copy_(torch.tensor([1 / 243, -1 / 243], dtype=torch.float64)[:, None, None, None])
    image = images(1, 41, 61)
    found = predict(blur, image, window=20, stride=stride)
    pixels = F.pad(image, (4, 4, 4, 4)).unfold(2, 9, 1).unfold(3, 9, 1).mean((1, 4, 5))
    whole = torch.sigmoid(2 * pixels)
    assert found[0, 0, -1, -1].item() == pytest.approx(whole[0, -1, -1].item(), abs=1e-12)  # seen by one window only


def test_whole_image(net: nn.Module) -> None:
    pair = images(3, 11, 14)
    torch.testing.assert_close(predict(net, pair, batch=2), net(pair).softmax(1), rtol=0, atol=1e-12)


def test_flip_averages_and_commutes_with_mirroring(net: nn.Module) -> None:
    pair = images(2, 20, 20)
    wanted = (net(pair).softmax(1) + net(pair.flip(-1)).softmax(1).flip(-1)) / 2
    found = predict(net, pair, flip=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(predict(net, pair.flip(-1), flip=True), found.flip(-1), rtol=0, atol=1e-12)


def test_scales_average_resized_predictions(net: nn.Module) -> None:
    image = images(1, 17, 33)

    def at(height: int, width: int) -> Tensor:
        probs = net(lerp(image, height, width)).softmax(1)
        return lerp(probs, 17, 33)

    wanted = (at(17, 33) + at(25, 49) + at(9, 17)) / 3
    torch.testing.assert_close(predict(net, image, scales=(1.0, 1.5, 0.5)), wanted, rtol=0, atol=1e-12)


def lerp(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation with aligned corners, as two matrices."""

    def matrix(new: int, old: int) -> Tensor:
        place = torch.arange(new, dtype=torch.float64) * (old - 1) / (new - 1)
        return (1 - (place[:, None] - torch.arange(old, dtype=torch.float64)).abs()).clamp_min(0)

    return matrix(height, x.shape[2]) @ x @ matrix(width, x.shape[3]).T


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(9, 24), st.integers(9, 24)),
    window=st.sampled_from([0, 9, 16]),
    scales=st.sampled_from([(1.0,), (0.75, 1.0, 1.25), (0.5,)]),
    flip=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_result_is_a_distribution_in_at_least_float32(
    size: tuple[int, int], window: int, scales: tuple[float, ...], flip: bool, dtype: torch.dtype
) -> None:
    image = images(2, *size).float()
    found = predict(lambda x: 30 * x.to(dtype), image, window=window, scales=scales, flip=flip, batch=3)
    assert found.dtype == torch.float32
    assert found.shape == image.shape
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(2, *size), rtol=0, atol=1e-5)
