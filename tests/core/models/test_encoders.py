"""Encoders against torchvision's networks with the same weights, an independent reference.

A stride that was traded for dilation leaves a finer map of which every second pixel is the strided network's.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from semiseg_cli.core.models import build_segmenter

RESNET = ["layer1", "layer2", "layer3", "layer4"]
NODES = {
    "resnet18": RESNET,
    "resnet50": RESNET,
    "mobilenet_v2": ["features.3", "features.6", "features.13", "features.17"],
}


@cache
def torchvision_net(name: str, **options) -> nn.Module:
    """Random weights, and batch norms that do something in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.get_model(name, weights=None, **options)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.0)
                nn.init.normal_(module.bias, 0, 0.1)
    return net.eval()


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("name", NODES)
@torch.no_grad()
def test_maps_are_torchvisions(name, output_stride):
    theirs = copy.deepcopy(torchvision_net(name)).double()
    ours = build_segmenter(name, "deeplabv3plus", 2, output_stride=output_stride).encoder.eval().double()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith(ours.unused)})

    image = torch.randn(1, 3, 49, 66, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = create_feature_extractor(theirs, NODES[name])(image)
    for stride, got, want in zip((4, 8, 16, 32), ours(image), expected.values(), strict=True):
        step = max(stride // output_stride, 1)
        assert want.abs().max() > 0.1
        torch.testing.assert_close(got[..., ::step, ::step], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("output_stride", "replace"), [(16, (False, False, True)), (8, (False, True, True))])
@torch.no_grad()
def test_resnet50_is_torchvisions_dilated_network(output_stride, replace):
    theirs = torchvision_net("resnet50", replace_stride_with_dilation=replace)
    ours = build_segmenter("resnet50", "deeplabv3plus", 2, output_stride=output_stride).encoder.eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    expected = create_feature_extractor(theirs, RESNET)(image)["layer4"]
    torch.testing.assert_close(ours(image)[-1], expected)


@pytest.mark.parametrize(
    ("output_stride", "dilations"),
    [(16, {"layer3": [1] * 6, "layer4": [1, 2, 2]}), (8, {"layer3": [1, 2, 2, 2, 2, 2], "layer4": [2, 4, 4]})],
)
@pytest.mark.parametrize("name", ["resnet50", "resnet50s"])
def test_bottleneck_dilations(name, output_stride, dilations):
    with torch.device("meta"):
        encoder = build_segmenter(name, "deeplabv3plus", 2, output_stride=output_stride).encoder
    for layer, expected in dilations.items():
        blocks = getattr(encoder, layer)
        assert [block.conv2.dilation[0] for block in blocks] == expected
        assert [block.conv2.padding[0] for block in blocks] == expected


def test_deep_stem_has_the_names_and_shapes_of_timm():
    """As in timm's `resnet50s.gluon_in1k`: `conv1` holds three convolutions and two norms, `bn1` is the third norm."""
    with torch.device("meta"):
        state = build_segmenter("resnet50s", "deeplabv3plus", 2).encoder.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    stem = {name: shape for name, shape in shapes.items() if name.startswith("conv1.") and name.endswith("weight")}
    assert stem == {
        "conv1.0.weight": (64, 3, 3, 3),
        "conv1.1.weight": (64,),
        "conv1.3.weight": (64, 64, 3, 3),
        "conv1.4.weight": (64,),
        "conv1.6.weight": (128, 64, 3, 3),
    }
    assert shapes["bn1.weight"] == (128,)
    assert shapes["layer1.0.conv1.weight"] == (64, 128, 1, 1)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 128, 1, 1)
    plain = set(torchvision_names("resnet50"))
    rest = {name for name in shapes if not name.startswith("conv1.")}
    assert rest == {name for name in plain if not name.startswith(("conv1.", "fc."))}


def torchvision_names(name: str) -> list[str]:
    with torch.device("meta"):
        return list(torchvision.models.get_model(name, weights=None).state_dict())
