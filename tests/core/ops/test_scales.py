"""The multi-scale ensemble against plain loops in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.methods.plugins.pixel_distributions import inter_pixel_loss
from semiseg_cli.core.networks import Encoder, Net, Out
from semiseg_cli.core.ops.scales import logits_at, mean_softmax


class Halved(Encoder):
    """Means of 2 x 2 pixels."""

    channels, strides = (3,), (2,)

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image_B3HW, 2, ceil_mode=True)]


class Pointwise(Net):
    """A network without a neighbourhood: logits are a matrix times the colours, at half the size."""

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.encoder, self.decoder = Halved(multiple), nn.Conv2d(3, 4, 1)
        self.sizes: list[tuple[int, int]] = []

    @property
    def widths(self) -> Mapping[str, int]:
        return {"fused": 3}

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        self.sizes.append((image_B3HW.shape[2], image_B3HW.shape[3]))
        return self.encoder(image_B3HW)

    def decode(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        logits = F.interpolate(self.decoder(maps[0]), size, mode="bilinear", align_corners=True)
        return Out(logits, maps[0], maps[0])


def test_logits_come_back_at_the_images_size() -> None:
    net, image = Pointwise(), torch.rand(2, 3, 33, 49)
    assert torch.equal(logits_at(net, image, 1.0), net.decode(net.encode(image), (33, 49)).logits_BKHW)
    assert logits_at(net, image, 0.5).shape == (2, 4, 33, 49)
    assert logits_at(net, image, 1.5).shape == (2, 4, 33, 49)
    assert net.sizes == [(33, 49), (33, 49), (17, 25), (49, 73)]


def test_scaled_views_have_sides_that_the_encoder_takes() -> None:
    net, image = Pointwise(multiple=14), torch.rand(1, 3, 42, 70)
    for factor in (1.0, 0.5, 1.5, 0.1):
        assert logits_at(net, image, factor).shape == (1, 4, 42, 70)
    assert net.sizes == [(42, 70), (28, 42), (70, 112), (14, 14)]  # 21 and 35 of 14: halves upwards


def test_a_flat_image_looks_alike_at_every_scale() -> None:
    net, image = Pointwise(), torch.rand(2, 3, 1, 1).expand(-1, -1, 33, 33)
    assert torch.allclose(logits_at(net, image, 0.7), logits_at(net, image, 1.0), atol=1e-6)


def test_the_mean_of_softmaxes() -> None:
    logits = [torch.randn(2, 3, 4, 5, dtype=torch.float64) * scale for scale in (1, 3, 30)]
    found = mean_softmax(logits).softmax(1)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                expected = [0.0, 0.0, 0.0]
                for each in logits:
                    powers = [float(each[b, k, y, x].exp()) for k in range(3)]
                    for k in range(3):
                        expected[k] += powers[k] / sum(powers) / 3
                assert found[b, :, y, x].tolist() == pytest.approx(expected, rel=1e-9)


def test_where_all_scales_agree_the_logits_are_theirs() -> None:
    """Not their log-probabilities, from which a student with the same logits would be apart in the inter-pixel loss."""
    logits = 5 * torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert torch.allclose(mean_softmax([logits] * 3), logits)
    everywhere = torch.ones(2, 4, 5, dtype=torch.bool)
    assert inter_pixel_loss(mean_softmax([logits] * 3), logits, everywhere).item() == pytest.approx(0, abs=1e-12)


def test_certainty_stays_finite() -> None:
    sure = torch.tensor([1e4, 0.0])[None, :, None, None]
    mean = mean_softmax([sure, sure])
    assert mean.isfinite().all()
    assert mean.softmax(1).flatten().tolist() == [1.0, 0.0]


def test_one_scale_is_left_as_it_is() -> None:
    logits = torch.randn(1, 3, 2, 2)
    assert mean_softmax([logits]) is logits
