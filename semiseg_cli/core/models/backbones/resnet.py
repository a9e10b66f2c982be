"""Residual networks (He et al., 2016, arXiv 1512.03385), with parameters named as torchvision and timm name them.

`resnet18|34|50|101` are torchvision's, whose weights fit. `resnet50s|101s` have the deep stem of the field's code
(three 3x3 convolutions of 64, 64 and 128 channels instead of one 7x7 of 64), which timm's weights of the same name fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torchvision.models
from torch import Tensor, nn

from semiseg_cli.core.models.backbones.dilation import held, set_output_stride
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.batchnorm import BatchNorm2d


class ResNet(Encoder):
    """Four residual stages, whose maps have the strides 4, 8, 16 and 32, none above the output stride."""

    unused = ("fc.",)

    def __init__(
        self, stem: nn.Module, norm: nn.Module, stages: Sequence[nn.Module], channels: Sequence[int], output_stride: int
    ) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), held(output_stride)
        self.conv1, self.bn1 = stem, norm
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        set_output_stride((self.layer3, self.layer4), output_stride)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image_B3HW))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _resnet(name: str, output_stride: int, *, deep_stem: bool = False) -> ResNet:
    """torchvision's network of that name, initialised as it does, without its classifier."""
    net = getattr(torchvision.models, name)(weights=None, norm_layer=BatchNorm2d)
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    if deep_stem:
        net.conv1, net.bn1 = _deep_stem(), BatchNorm2d(128)
        first = net.layer1[0]
        first.conv1 = conv(128, 64, 1)
        first.downsample[0] = conv(128, 256, 1)
    channels = [stage[0].conv1.out_channels * stage[0].expansion for stage in stages]
    return ResNet(net.conv1, net.bn1, stages, channels, output_stride)


def _deep_stem() -> nn.Sequential:
    return nn.Sequential(
        conv(3, 64, 3, stride=2),
        BatchNorm2d(64),
        nn.ReLU(inplace=True),
        conv(64, 64, 3),
        BatchNorm2d(64),
        nn.ReLU(inplace=True),
        conv(64, 128, 3),
    )


def conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, initialised as torchvision's ResNets are."""
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


resnet18 = partial(_resnet, "resnet18")
resnet34 = partial(_resnet, "resnet34")
resnet50 = partial(_resnet, "resnet50")
resnet101 = partial(_resnet, "resnet101")
resnet50s = partial(_resnet, "resnet50", deep_stem=True)
resnet101s = partial(_resnet, "resnet101", deep_stem=True)
