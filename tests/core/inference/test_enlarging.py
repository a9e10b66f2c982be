"""Bands of enlarged probabilities against the enlargement as a whole, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.inference import enlarging
from semiseg_cli.core.inference.enlarging import bands, decided, enlarged


def probabilities(batch: int, height: int, width: int) -> Tensor:
    noise = torch.randn(batch, 5, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (3 * noise).softmax(1)


@pytest.mark.parametrize("sizes", [((7, 9), (40, 31)), ((1, 6), (3, 50)), ((6, 1), (50, 3)), ((5, 5), (6, 5))])
@pytest.mark.parametrize("band", [1, 700, 2**22])
def test_bands_are_the_whole(
    sizes: tuple[tuple[int, int], tuple[int, int]], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enlarging, "BAND", band)
    small, size = sizes
    probs = probabilities(2, *small)
    wanted = F.interpolate(probs, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged(probs, size), wanted, rtol=0, atol=1e-12)
    label, conf = decided(probs, size)
    assert label.dtype == torch.uint8
    assert torch.equal(label.long(), wanted.argmax(1))
    torch.testing.assert_close(conf, wanted.amax(1), rtol=0, atol=1e-12)
    many = [part.numel() for _, part in bands(probs, size)]
    assert max(many) <= max(band, 2 * 5 * size[1])
    assert sum(many) == wanted.numel()


def test_nothing_is_enlarged_at_the_same_size() -> None:
    probs = probabilities(1, 4, 6)
    assert torch.equal(enlarged(probs, (4, 6)), probs)
    assert torch.equal(decided(probs, (4, 6))[0].long(), probs.argmax(1))


def test_a_border_is_a_slope_and_no_stairs() -> None:
    """A border that crosses reduced pixels obliquely: enlarged, it is within a pixel of the line it stands for."""
    middle = torch.arange(8, dtype=torch.float64) + 0.5
    one = torch.sigmoid(middle - middle[:, None] / 2 - 2)
    label, _ = decided(torch.stack([1 - one, one])[None], (80, 80))
    y = (torch.arange(10, 70) + 0.5) / 10  # inside, where nothing is clamped
    begins = (label[0, 10:70] == 0).sum(1) / 10
    assert (begins - (2 + y / 2)).abs().max() < 0.15  # nearest: up to half a reduced pixel, 0.5
