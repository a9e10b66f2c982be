"""Residual networks (He et al., 2016, arXiv 1512.03385), with parameters named as torchvision and timm name them.

`resnet18|34|50|101` are torchvision's, whose weights fit. `resnet50s|101s` have the deep stem of the field's code
(three 3x3 convolutions of 64, 64 and 128 channels instead of one 7x7 of 64), which timm's weights of the same name fit.
They are built here because importing torchvision costs a second, for what no run needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

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


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the shortcut (`downsample`: where the map's size or channels change)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, width, 3, stride), BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(width, width, 3), BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu_(out)


class Bottleneck(nn.Module):
    """The same of 1x1, 3x3 and 1x1, the stride at the 3x3."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1, self.bn1 = conv(channels, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, out, 1), BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu_(out)


def stage(kind: type[BasicBlock | Bottleneck], channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width, of which the first has the stride."""
    out = width * kind.expansion
    shortcut = None
    if stride > 1 or channels != out:
        shortcut = nn.Sequential(conv(channels, out, 1, stride), BatchNorm2d(out))
    first = kind(channels, width, stride, shortcut)
    return nn.Sequential(first, *(kind(out, width) for _ in range(blocks - 1)))


def _resnet(
    kind: type[BasicBlock | Bottleneck], blocks: Sequence[int], output_stride: int, *, deep_stem: bool = False
) -> ResNet:
    begin = 128 if deep_stem else 64
    stem = _deep_stem() if deep_stem else conv(3, begin, 7, stride=2)
    widths = (64, 128, 256, 512)
    channels = [width * kind.expansion for width in widths]
    steps = zip([begin, *channels], widths, blocks, (1, 2, 2, 2), strict=False)
    return ResNet(stem, BatchNorm2d(begin), [stage(kind, *each) for each in steps], channels, output_stride)


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
    if not conv.weight.is_meta:  # where there is nothing to fill, PyTorch would import its compiler
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


resnet18 = partial(_resnet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(_resnet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(_resnet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(_resnet, Bottleneck, (3, 4, 23, 3))
resnet50s = partial(_resnet, Bottleneck, (3, 4, 6, 3), deep_stem=True)
resnet101s = partial(_resnet, Bottleneck, (3, 4, 23, 3), deep_stem=True)
