"""The network as a whole: precision, memory format, frozen batch norms, one image at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from semiseg_cli.core.models import build_segmenter


@pytest.fixture
def image():
    return torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def make(**options):
    return build_segmenter("tiny", "deeplabv3plus", 4, **options)


def test_forward_is_encode_then_decode(image):
    net = make().eval()
    assert torch.equal(net(image), net.decode(net.encode(image), (48, 64)).logits_BKHW)


def test_logits_are_float32_under_autocast_and_upsampled_as_such(image):
    net = make().eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = net.decode(net.encode(image), (48, 64))
    assert out.fused.dtype == torch.bfloat16
    assert out.logits_BKHW.dtype == torch.float32
    # Upsampled in bfloat16 and cast afterwards, every value would be one that bfloat16 has.
    assert not torch.equal(out.logits_BKHW, out.logits_BKHW.bfloat16().float())
    torch.testing.assert_close(out.logits_BKHW, net(image), rtol=0.1, atol=0.1)


def test_double_precision_stays_double(image):
    assert make().double()(image.double()).dtype == torch.float64


def test_channels_last_changes_nothing_but_the_layout(image):
    net = make().eval()
    expected = net(image)
    nhwc = copy.deepcopy(net).to(memory_format=torch.channels_last)
    torch.testing.assert_close(nhwc(image.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


def test_one_image_can_be_trained_on(image):
    net = make()
    net(image[:1]).mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def statistics(module: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for name, b in module.named_buffers() if "running" in name]


def test_frozen_batch_norms_stay_as_they_are_through_train(image):
    net = make(freeze_bn=True)
    for mode in (True, False, True):
        net.train(mode)
        assert not any(m.training for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d))
        assert all(m.training == mode for m in net.decoder.modules())

    encoder, decoder = statistics(net.encoder), statistics(net.decoder)
    net(image).mean().backward()
    assert all(torch.equal(a, b) for a, b in zip(encoder, statistics(net.encoder), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(decoder, statistics(net.decoder), strict=True))
    assert net.encoder.bn1.weight.grad is not None  # scale and shift are still trained

    wrapper = nn.Sequential(copy.deepcopy(net)).train()
    assert not wrapper[0].encoder.bn1.training


def test_unfrozen_batch_norms_train():
    assert all(m.training for m in make().modules())


@torch.no_grad()
@pytest.mark.parametrize("size", [(43, 64), (6, 30), (28, 56)])
def test_an_encoder_of_patches_is_shown_the_nearest_size_and_the_logits_come_back(patches, size):
    net = build_segmenter("patches", "plain", 3)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    seen = tuple(max(14, 14 * round(side / 14)) for side in size)
    shown = nn.functional.interpolate(image, seen, mode="bilinear", align_corners=True)
    logits = net.decode(net.encode(shown), seen).logits_BKHW
    expected = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(net(image), expected)
