"""The decoder of GuidedMix-Net: its attention against a loop in float64, its geometry, and where it puts things."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.models.decoders.mitrans import MITransDecoder, NonLocal


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_attention_is_equation_5():
    block = NonLocal(8).double()
    v = numbers(2, 8, 3, 4)
    found = block(v)
    for b in range(2):
        x = v[b].flatten(1).T  # positions x channels
        q, k, w = (
            x @ conv.weight[:, :, 0, 0].T + conv.bias for conv in (block.query, block.key, block.value)
        )
        for n in range(12):
            scores = torch.tensor([float(q[n] @ k[m]) for m in range(12)], dtype=torch.float64)
            attention = scores.exp() / scores.exp().sum()
            expected = x[n] + sum(attention[m] * w[m] for m in range(12))
            torch.testing.assert_close(found[b].flatten(1)[:, n], expected, rtol=1e-10, atol=1e-10)


def test_attention_never_holds_the_matrix_of_positions():
    """Of 48 x 48 positions it would have 2304 x 2304 entries; the backward pass is given nothing like it."""
    block = NonLocal(16)
    sizes: list[int] = []

    def pack(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        block(torch.randn(1, 16, 48, 48)).sum().backward()
    assert max(sizes) <= 2304 * 16


@pytest.mark.parametrize(("output_stride", "factors"), [(32, [2, 2, 2]), (16, [1, 2, 2]), (8, [1, 1, 2])])
@pytest.mark.parametrize("side", [64, 65, 97])
def test_every_output_stride_comes_back_to_stride_4(output_stride, factors, side):
    net = build_segmenter("tiny", "mitrans", 3, output_stride=output_stride)
    shuffles = [m.upscale_factor for m in net.decoder.modules() if isinstance(m, nn.PixelShuffle)]
    assert shuffles == factors
    out = net.decode(net.encode(torch.randn(1, 3, side, side)), (side, side))
    assert out.logits_BKHW.shape == (1, 3, side, side)
    assert out.fused.shape[2:] == (-(-side // 4), -(-side // 4))


def test_only_the_attention_is_left_out():
    whole, local = (build_segmenter("tiny", name, 3, output_stride=32).decoder for name in ("mitrans", "mitrans_local"))
    names = {name for name in whole.state_dict() if ".attention." not in name}
    assert names == set(local.state_dict())
    assert len(names) < len(whole.state_dict())


def test_widths_of_a_resnet50():
    with torch.device("meta"):
        decoder = MITransDecoder((256, 512, 1024, 2048), (4, 8, 16, 32), 21)
    assert decoder.context.project[0].out_channels == 512  # the paper's
    assert [block.fuse[0].out_channels for block in decoder.blocks] == [256, 128, 64]
    assert [block.attention.query.out_channels for block in decoder.blocks] == [256, 128, 64]


def squares(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bright squares of 16 px on noise, anywhere, and their masks."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.zeros(count, 64, 64, dtype=torch.long)
    for image, (y, x) in zip(mask, torch.randint(0, 49, (count, 2), generator=rng).tolist(), strict=True):
        image[y : y + 16, x : x + 16] = 1
    return mask[:, None] * 2.0 - 1 + 0.3 * torch.randn(count, 3, 64, 64, generator=rng), mask


def test_a_shifted_square_stays_where_it_is():
    """A network that has learned squares finds new ones at their place, to less than a pixel on average."""
    net = build_segmenter("tiny", "mitrans", 2, output_stride=32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(40):
        image, mask = squares(8, step)
        loss = nn.functional.cross_entropy(net(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, mask = squares(32, 1000)
    with torch.no_grad():
        found = net.eval()(image).argmax(1)
    overlap = ((found == 1) & (mask == 1)).sum() / ((found == 1) | (mask == 1)).sum()
    assert overlap > 0.85
    grid = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))

    def centre(m: Tensor) -> Tensor:
        return torch.stack([(m * axis).sum((1, 2)) / m.sum((1, 2)).clamp(min=1) for axis in grid])

    shift = centre(found) - centre(mask)
    assert shift.mean(1).abs().max() < 0.5  # no systematic displacement
    assert shift.abs().max() < 2
