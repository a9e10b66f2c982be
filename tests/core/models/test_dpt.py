"""DPT: sizes and costs as published, and the whole of it once more in float64 from published weights' names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.models.decoders.dpt import DPT

SIZES = {  # encoder's width: width of the fusions, channels of the pyramid
    384: (64, (48, 96, 192, 384)),
    768: (128, (96, 192, 384, 768)),
    1024: (256, (256, 512, 1024, 1024)),
    1536: (384, (1536, 1536, 1536, 1536)),
}


def made(channels: int, classes: int = 21) -> DPT:
    return DPT((channels,) * 4, (14,) * 4, classes)


def published(width: int, classes: int, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of the public code, its unused unit among them."""
    fused, pyramid = SIZES[width]
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, given: int, side: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, given, side, side)
        shapes.update({f"{name}.bias": (out,)} if bias else {})

    for i, channels in enumerate(pyramid):
        conv(f"projects.{i}", channels, width, 1)
        if i != 2:
            conv(f"resize_layers.{i}", channels, channels, (4, 2, 0, 3)[i])
        conv(f"scratch.layer{i + 1}_rn", fused, channels, 3, bias=False)
        for unit in (1, 2):
            for one in (1, 2):
                conv(f"scratch.refinenet{i + 1}.resConfUnit{unit}.conv{one}", fused, fused, 3)
        conv(f"scratch.refinenet{i + 1}.out_conv", fused, fused, 1)
    conv("scratch.output_conv.0", fused, fused, 3)
    conv("scratch.output_conv.2", classes, fused, 1)
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, dtype=torch.float64, generator=random) / max(torch.tensor(shape[1:]).prod(), 4) ** 0.5
        for name, shape in shapes.items()
    }


def reference(w: dict[str, Tensor], maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Logits, and the coarsest fusion, from the description alone: reassemble, fuse top down, classify."""

    def conv(x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **how)

    def unit(x: Tensor, name: str) -> Tensor:
        return x + conv(F.relu(conv(F.relu(x), f"{name}.conv1", padding=1)), f"{name}.conv2", padding=1)

    x = [conv(tokens, f"projects.{i}") for i, tokens in enumerate(maps)]
    x[0] = F.conv_transpose2d(x[0], w["resize_layers.0.weight"], w["resize_layers.0.bias"], stride=4)
    x[1] = F.conv_transpose2d(x[1], w["resize_layers.1.weight"], w["resize_layers.1.bias"], stride=2)
    x[3] = conv(x[3], "resize_layers.3", stride=2, padding=1)
    x = [conv(level, f"scratch.layer{i + 1}_rn", padding=1) for i, level in enumerate(x)]

    path, coarsest = x[3], None
    for i in (3, 2, 1, 0):
        name = f"scratch.refinenet{i + 1}"
        if i < 3:
            path = path + unit(x[i], f"{name}.resConfUnit1")
        target = x[i - 1].shape[2:] if i else [2 * side for side in path.shape[2:]]
        path = F.interpolate(unit(path, f"{name}.resConfUnit2"), list(target), mode="bilinear", align_corners=True)
        path = conv(path, f"{name}.out_conv")
        coarsest = path if coarsest is None else coarsest
    assert coarsest is not None
    logits = conv(F.relu(conv(path, "scratch.output_conv.0", padding=1)), "scratch.output_conv.2")
    return F.interpolate(logits, list(size), mode="bilinear", align_corners=True), coarsest


@pytest.mark.parametrize(
    ("channels", "parameters", "unused"),
    [(384, 2_739_061, 73_856), (768, 10_948_309, 295_168), (1024, 31_210_517, 1_180_160)],
)
def test_parameters_are_the_published_less_the_unused_units(channels: int, parameters: int, unused: int) -> None:
    with torch.device("meta"):
        decoder = made(channels)
    assert sum(p.numel() for p in decoder.parameters()) == parameters - unused
    assert not list(decoder.buffers())


@pytest.mark.parametrize("channels", SIZES)
def test_widths_are_the_published(channels: int) -> None:
    with torch.device("meta"):
        decoder = made(channels)
    assert (decoder.widths["fused"], tuple(conv.out_channels for conv in decoder.projects)) == SIZES[channels]


@pytest.mark.parametrize(("side", "gflop"), [(37, 114 - 93), (57, 383 - 334)])
def test_an_image_costs_what_was_measured_of_the_public_code(side: int, gflop: int) -> None:
    """Beside DINOv2-S, at 518 and 798 pixels; both measurements were rounded."""
    with torch.device("meta"):
        decoder = made(384)
        maps = [torch.empty(1, 384, side, side)] * 4
    with FlopCounterMode(display=False) as counter:
        out = decoder(maps, (14 * side, 14 * side))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=1)
    assert out.fused.shape[2:] == (8 * side, 8 * side)
    assert out.context.shape[2:] == (side, side)


@pytest.mark.parametrize("grid", [(4, 3), (5, 7), (1, 1)])
@torch.no_grad()
def test_it_computes_what_is_published_from_published_weights(grid: tuple[int, int]) -> None:
    weights = published(384, 5)
    decoder = made(384, 5).double()
    decoder.load_state_dict(dict(weights))
    random = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 384, *grid, dtype=torch.float64, generator=random) for _ in range(4)]
    size = (14 * grid[0], 14 * grid[1])
    out = decoder(maps, size)
    logits, coarsest = reference(weights, maps, size)
    torch.testing.assert_close(out.logits_BKHW, logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out.context, coarsest, rtol=1e-10, atol=1e-10)
    assert logits.std() > 0.01


def test_a_file_that_lacks_something_is_refused_and_its_own_is_not() -> None:
    decoder = made(384, 5)
    copy.deepcopy(decoder).load_state_dict(decoder.state_dict())
    weights = published(384, 5)
    del weights["scratch.refinenet4.resConfUnit2.conv1.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*fuse\.3\.unit\.conv1\.weight"):
        decoder.load_state_dict(weights)


@pytest.mark.parametrize(("size", "published"), [("s", 24_795_637), ("b", 97_528_789), ("l", 335_579_157)])
def test_a_whole_network_is_as_large_as_published(size: str, published: int) -> None:
    """Less what is never used: a unit of the decoder, and the encoder's token for masked patches."""
    with torch.device("meta"):
        net = build_segmenter(f"dinov2_{size}", "dpt", 21)
    unused = {"s": 73_856 + 384, "b": 295_168 + 768, "l": 1_180_160 + 1024}[size]
    assert sum(p.numel() for p in net.parameters()) == published - unused


def test_a_whole_network_costs_what_was_measured() -> None:
    """At 518 pixels, where the position table is used as it is; attention's two products included."""
    with torch.device("meta"):
        net, image = build_segmenter("dinov2_s", "dpt", 21), torch.empty(1, 3, 518, 518)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        net(image)
    assert counter.get_total_flops() / 1e9 == pytest.approx(114, abs=1)
