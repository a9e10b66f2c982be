"""The convolutional encoders are torchvision's networks: the same parameters, in the same order, and the same maps."""

from __future__ import annotations

import pytest
import torch
import torchvision

from semiseg_cli.core.models import build_encoder

NAMES = ("resnet18", "resnet50", "mobilenet_v2")


@pytest.mark.parametrize("name", [*NAMES, "resnet34", "resnet101"])
def test_parameters_and_buffers(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None).state_dict()
        ours = build_encoder(name, output_stride=32)
    kept = {key: value.shape for key, value in theirs.items() if not key.startswith(ours.unused)}
    assert {key: value.shape for key, value in ours.state_dict().items()} == kept
    assert list(ours.state_dict()) == list(kept)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_map(name: str) -> None:
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    ours = build_encoder(name, output_stride=32).eval()
    ours.load_state_dict({key: x for key, x in net.state_dict().items() if not key.startswith(ours.unused)})
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        if name == "mobilenet_v2":
            wanted = net.features[:18](image)
        else:
            wanted = net.layer4(net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(image))))))))
        assert torch.equal(ours(image)[-1], wanted)


@pytest.mark.parametrize("name", NAMES)
def test_first_weights_are_drawn_as_torchvision_draws_them(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).state_dict()
    ours = build_encoder(name, output_stride=32).state_dict()
    for key, value in ours.items():
        if value.dim() == 4:
            assert value.std().item() == pytest.approx(theirs[key].std().item(), rel=0.25), key
        else:
            assert torch.equal(value, theirs[key]), key
