"""The classes that windows say together are those of the summed probabilities, however much is left out of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.inference import overlaps
from semiseg_cli.core.inference.overlaps import Window, decide
from semiseg_cli.core.inference.sliding import labels, predict

CLASSES = 5


def answers(scale: float, share: float) -> Callable[[Tensor], Tensor]:
    """A network of random logits, a function of the window's pixels; `share` of them depends on the window as well."""

    def net(image_B3HW: Tensor) -> Tensor:
        one = torch.cat([(7.3 * (k + 1) * image_B3HW[:, :1]).sin() for k in range(CLASSES)], 1)
        return scale * (one + share * one.roll(1, 1) * image_B3HW.mean((2, 3), keepdim=True)[:, :1] * 9)

    return net


def images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@settings(max_examples=60)
@given(
    st.integers(1, 36), st.integers(1, 36), st.integers(4, 24), st.sampled_from([0.3, 0.5, 2 / 3, 1.0]),
    st.integers(1, 9), st.integers(1, 3), st.sampled_from([0.0, 0.3, 3.0]),
)  # fmt: skip
def test_labels_are_those_of_the_probabilities(
    height: int, width: int, window: int, stride: float, batch: int, count: int, share: float
) -> None:
    net, image = answers(4.0, share), images(count, height, width)
    how = {"window": window, "stride": stride, "batch": batch}
    found, probs = labels(net, image, **how), predict(net, image, **how)
    assert found.dtype == torch.uint8
    chosen = probs.gather(1, found[:, None].long())[:, 0]
    assert (probs.amax(1) - chosen).max() < 1e-6  # equal, or as good
    assert (found != probs.argmax(1)).sum() <= 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sum_is_won_by_a_class_that_is_first_in_no_window(layout: torch.memory_format) -> None:
    shares = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4]]).log()  # the sum: 0.6, 0.6, 0.8
    tiles = shares[:, :, None, None].expand(2, 3, 4, 6).contiguous(memory_format=layout)
    found = torch.full((4, 8), 9, dtype=torch.uint8)
    decide([Window(0, 0, tiles[0]), Window(0, 2, tiles[1])], slice(0, 4), found)
    assert found.tolist() == [[0, 0, 2, 2, 2, 2, 1, 1]] * 4


def test_where_windows_agree_no_probability_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def softmax(logits: Tensor, dim: int, whole: Callable[..., Tensor] = overlaps.softmax) -> Tensor:
        counted.append(logits[0].numel())
        return whole(logits, dim)

    monkeypatch.setattr(overlaps, "softmax", softmax)
    coarse = torch.randn(1, CLASSES, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = 4 * F.interpolate(coarse, (40, 40), mode="bilinear")[0]
    tilt = torch.zeros_like(whole)
    tilt[0, :, :3] = 100  # of the second window: another class in 3 of its columns, within the overlap
    found = torch.empty(40, 50, dtype=torch.uint8)
    decide([Window(0, 0, whole), Window(0, 10, whole.roll(-10, 2) + tilt)], slice(0, 40), found)
    alone = whole.argmax(0)
    assert 0 < sum(counted) <= 2 * 3 * 40
    assert torch.equal(found[:, 13:40].long(), alone[:, 13:])
    assert torch.equal(found[:, :10].long(), alone[:, :10])
