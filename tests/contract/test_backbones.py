"""What every backbone promises, at every output stride: a new line in `BACKBONES` is tested by its being there."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg_cli.core.models import BACKBONES, build_decoder, build_segmenter

CASES = [
    (name, decoder, stride)
    for name in BACKBONES
    for decoder, stride in (("deeplabv3plus", 16), ("deeplabv3plus", 8), ("mitrans", 32))
]


@pytest.fixture(params=CASES, ids=lambda p: f"{p[0]}-{p[1]}-os{p[2]}")
def case(request):
    name, decoder, stride = request.param
    return name, decoder, stride, build_segmenter(name, decoder, 3, output_stride=stride)


def test_contract(case):
    name, decoder, stride, net = case
    image = torch.randn(2, 3, 64, 65, generator=torch.Generator().manual_seed(0))
    maps = net.encode(image)

    assert tuple(m.shape[1] for m in maps) == net.encoder.channels
    expected = [(math.ceil(64 / s), math.ceil(65 / s)) for s in (4, 8, min(16, stride), stride)]
    assert [tuple(m.shape[2:]) for m in maps] == expected

    out = net.decode(maps, (64, 65))
    assert out.logits_BKHW.shape == (2, 3, 64, 65)
    assert out.logits_BKHW.dtype == torch.float32
    assert out.context.shape[2:] == maps[-1].shape[2:]
    assert out.fused.shape[2:] == maps[0].shape[2:]
    assert net.widths == {"context": out.context.shape[1], "fused": out.fused.shape[1]}
    assert all(a is b for a, b in zip(out.maps, maps, strict=True))

    out.logits_BKHW.square().mean().backward()
    for parameter in net.parameters():  # from the classifier down to the first convolution
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    first = next(m for m in net.encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.weight.grad.abs().sum() > 0

    assert not [m for m in net.modules() if "Dropout" in type(m).__name__]
    assert not [m for m in net.modules() if type(m) is torch.nn.BatchNorm2d]  # semiseg's own launches less
    assert all(isinstance(prefix, str) and prefix.endswith(".") for prefix in net.encoder.unused)
    second = build_decoder(name, decoder, 3, output_stride=stride)
    assert second.state_dict().keys() == net.decoder.state_dict().keys()
    assert second(maps, (64, 65)).logits_BKHW.shape == (2, 3, 64, 65)
