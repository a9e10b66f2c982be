"""What every backbone and decoder promise: a new line in `BACKBONES` or `DECODERS` is tested by its being there."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.models import (
    BACKBONES,
    DECODERS,
    build_decoder,
    build_encoder,
    build_segmenter,
    described,
    stated,
)
from semiseg_cli.core.networks import Decoder, Encoder
from semiseg_cli.core.registry import load_named
from semiseg_cli.core.settings import ModelConfig

STRIDES = (32, 16, 8)  # output strides
OWN = [name for name, backbone in BACKBONES.items() if backbone.factory]
NAMES = [*OWN, "timm:test_vit", "timm:test_convnext", "timm:test_efficientnet"]  # in small, for all of timm's
DEEPER = {"resnet34", "resnet101", "resnet101s"}  # more of the blocks of a smaller one: maps and files are enough
SHORT = [name for name in NAMES if name not in DEEPER]
TWINS = {"resnet34": "resnet18", "resnet101": "resnet50", "resnet50s": "resnet50", "resnet101s": "resnet50"}


def shown(encoder: Encoder) -> list[Tensor]:
    """Images of odd sides, or of odd multiples where an encoder takes those only."""
    generator, multiple = torch.Generator().manual_seed(1), encoder.multiple
    sides = [(33, 50), (17, 47)] if multiple == 1 else [(5 * multiple, 7 * multiple), (multiple, 3 * multiple)]
    return [torch.randn(2, 3, *size, generator=generator) for size in sides]


def trained(encoder: Encoder) -> Encoder:
    """In eval mode, with norms that have seen something: they no longer make a zero of a zero at the border."""
    generator = torch.Generator().manual_seed(2)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.8), (module.bias, -0.2)):
                tensor.data.uniform_(low, low + 0.4, generator=generator)
    return encoder.eval()


@pytest.mark.parametrize(
    ("name", "output_stride"), [(name, stride) for name in NAMES for stride in (STRIDES if name in SHORT else (8,))]
)
@torch.no_grad()
def test_maps_are_what_the_encoder_states(name, output_stride):
    encoder = build_encoder(name, output_stride=output_stride).eval()
    for image in shown(encoder):
        height, width = image.shape[2:]
        stated = zip(encoder.channels, encoder.strides, strict=True)
        expected = [(2, c, math.ceil(height / s), math.ceil(width / s)) for c, s in stated]
        assert [tuple(x.shape) for x in encoder(image)] == expected


@pytest.mark.parametrize("name", [name for name in OWN if name in SHORT])
@torch.no_grad()
def test_a_held_stride_changes_no_value(name):
    """The network of stride 32 has every second value of one held at 16, every fourth of one at 8; the border's too."""
    strided = trained(build_encoder(name, output_stride=32)).double()
    for output_stride in STRIDES[1:]:
        held = stated(name, output_stride).eval()
        held.load_state_dict(strided.state_dict(), assign=True)
        for image in shown(strided):
            maps = zip(strided(image[:1].double()), held(image[:1].double()), strict=True)
            for (want, got), coarse, fine in zip(maps, strided.strides, held.strides, strict=True):
                assert want.abs().max() > 1e-3
                torch.testing.assert_close(got[..., :: coarse // fine, :: coarse // fine], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_file_brings_an_encoder_back(name):
    encoder = trained(build_encoder(name))
    image, state = shown(encoder)[0], load(save(encoder.state_dict()))
    assert not [key for key in state if key.startswith(encoder.unused)]
    fresh = build_encoder(name, seed=1).eval()
    fresh.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(fresh(image), encoder(image), strict=True))


@pytest.mark.parametrize("name", SHORT)
@torch.no_grad()
def test_training_mode_draws_and_counts_nothing(name):
    """Views that must agree see one network; a norm that counts launches a kernel for a number that nobody reads."""
    encoder, generator = build_encoder(name).train(), torch.get_rng_state()
    image = shown(encoder)[0]
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), encoder(image), strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(tensor for key, tensor in encoder.named_buffers() if key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backbone", [name for name in NAMES if name not in TWINS])
def test_a_decoder_takes_the_maps_it_needs_and_refuses_others(backbone, decoder):
    for output_stride in STRIDES[: 1 if backbone != "tiny" else 3]:
        encoder = stated(backbone, output_stride)
        if not load_named(DECODERS, decoder, "").need.fits(encoder.strides):
            with pytest.raises(UsageError, match=f"decoder {decoder} needs") as caught:
                build_decoder(backbone, decoder, 3, output_stride=output_stride)
            assert ", ".join(map(str, encoder.strides)) in caught.value.why
            assert decoder not in caught.value.fix.split()
            continue
        head, size = build_decoder(backbone, decoder, 3, output_stride=output_stride), shown(encoder)[0].shape[2:]
        maps = [
            torch.randn(2, c, math.ceil(size[0] / s), math.ceil(size[1] / s), requires_grad=True)
            for c, s in zip(encoder.channels, encoder.strides, strict=True)
        ]
        taken(head, maps, (size[0], size[1]))
        assert maps[-1].grad is not None
        assert maps[-1].grad.any()
        assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_decoder_is_told_the_same_of_twins():
    for name, other in TWINS.items():
        one, two = stated(name, 32), stated(other, 32)
        assert (one.channels, one.strides, one.multiple) == (two.channels, two.strides, two.multiple)


@pytest.mark.parametrize("backbone", SHORT)
def test_gradients_reach_all_of_a_network(backbone):
    whole(backbone, described(ModelConfig(backbone=backbone, decoder="auto")).decoder, 16)


def taken(head: Decoder, maps: list[Tensor], size: tuple[int, int]) -> None:
    """What comes of maps: shapes, precision, and a gradient."""
    out = head(maps, size)
    assert out.logits_BKHW.shape == (2, 3, *size)
    assert out.logits_BKHW.dtype == torch.float32
    assert out.context.shape[2:] == maps[-1].shape[2:]
    assert head.widths == {"context": out.context.shape[1], "fused": out.fused.shape[1]}
    assert head.upsample(out.fused, size).shape == (2, head.widths["fused"], *size)
    assert all(a is b for a, b in zip(out.maps, maps, strict=True))
    out.logits_BKHW.square().mean().backward()


def whole(backbone: str, decoder: str, output_stride: int) -> None:
    """A network of the two: a gradient from the classifier to the first convolution, and a second decoder for it."""
    net = build_segmenter(backbone, decoder, 3, output_stride=output_stride)
    image = shown(net.encoder)[0]
    size = (image.shape[2], image.shape[3])
    maps = net.encode(image)
    assert net.widths == net.decoder.widths
    taken(net.decoder, maps, size)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert next(net.encoder.parameters()).grad.abs().sum() > 0
    assert not any(tensor for key, tensor in net.named_buffers() if key.endswith("num_batches_tracked"))

    second = build_decoder(backbone, decoder, 3, output_stride=output_stride)
    assert second.state_dict().keys() == net.decoder.state_dict().keys()
    assert second(maps, size).logits_BKHW.shape == (2, 3, *size)


def test_an_encoder_of_patches_and_its_decoder(patches):
    whole("patches", "dpt", 16)
