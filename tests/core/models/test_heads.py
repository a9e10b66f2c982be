"""The heads of a probe against a classifier of every pixel's features alone, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from semiseg_cli.core.models.decoders.heads import MLP, Linear

SIZE = (32, 48)


@pytest.fixture(autouse=True)
def _the_same_head() -> Iterator[None]:
    """How much a middle differs from its neighbour depends on the weights that a head begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def maps_of(channels: tuple[int, ...], strides: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, c, -(-SIZE[0] // s), -(-SIZE[1] // s)) for c, s in zip(channels, strides, strict=True)]
    return [3 * torch.randn(shape, generator=generator).double() + 2 for shape in shapes]


@torch.no_grad()
@pytest.mark.parametrize("kind", [Linear, MLP])
def test_patches_are_classified_one_by_one_and_enlarged_from_their_middles(kind: type[Linear]) -> None:
    head = kind((3, 2, 3, 2), (16,) * 4, 3).double().eval()
    images = [maps_of((3, 2, 3, 2), (16,) * 4, seed) for seed in (1, 2, 3)]
    head.standardise(images)
    seen = torch.cat([torch.cat(maps, 1).flatten(2) for maps in images], 2)[0]  # 10 channels, all pixels
    maps = maps_of((3, 2, 3, 2), (16,) * 4)
    x = (torch.cat(maps, 1) - seen.mean(1)[:, None, None]) / (seen.var(1, unbiased=False) + 1e-5).sqrt()[:, None, None]
    if isinstance(head, MLP):
        weight = torch.cat([layer.weight for layer in head.hidden], 1)[:, :, 0, 0]
        bias = head.hidden[0].bias
        x = (torch.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]).relu()
    weight, bias = head.classifier.weight[:, :, 0, 0], head.classifier.bias
    logits = torch.einsum("kc,bchw->bkhw", weight, x) + bias[:, None, None]
    out = head(maps, SIZE).logits_BKHW
    torch.testing.assert_close(out, F.interpolate(logits, SIZE, mode="bilinear"), rtol=1e-9, atol=1e-9)
    middle = (out[0, :, 7, 7] + out[0, :, 8, 8] + out[0, :, 7, 8] + out[0, :, 8, 7]) / 4
    assert (middle - logits[0, :, 0, 0]).abs().max() < 0.1 * (logits[0, :, 0, 0] - logits[0, :, 1, 1]).abs().max()


@torch.no_grad()
@pytest.mark.parametrize("kind", [Linear, MLP])
def test_the_maps_of_a_pyramid_are_fused_in_register(kind: type[Linear]) -> None:
    head = kind((4, 5, 6), (4, 8, 16), 3).double().eval()
    maps = maps_of((4, 5, 6), (4, 8, 16))
    head.standardise([maps])
    out = head(maps, SIZE)
    assert out.fused.shape[2:] == (8, 12)
    assert out.context.shape == (1, 6, 2, 3)
    torch.testing.assert_close(head.classifier(out.fused), out.logits_BKHW[:, :, ::4, ::4], rtol=1e-9, atol=1e-9)
    apart = [F.instance_norm(x) for x in maps]
    if isinstance(head, MLP):
        apart = [layer(x) for layer, x in zip(head.hidden, apart, strict=True)]
        first = sum(x[:, :, 0, 0] for x in apart).relu()  # value 0 of every map belongs to pixel 0
    else:
        first = torch.cat([x[:, :, 0, 0] for x in apart], 1)
    torch.testing.assert_close(out.fused[:, :, 0, 0], first, rtol=1e-9, atol=1e-9)
    assert out.context.mean().abs() < 1e-9
    assert abs(out.context.std(unbiased=False) - 1) < 1e-4
