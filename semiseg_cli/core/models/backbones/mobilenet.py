"""MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381), with parameters named as torchvision names them."""

from __future__ import annotations

from torch import Tensor, nn

from semiseg_cli.core.models.backbones.dilation import held, set_output_stride
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.batchnorm import BatchNorm2d

BLOCKS = (  # expansion, channels, blocks, stride of the first (table 2 of the paper)
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class ConvNormReLU6(nn.Sequential):
    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, BatchNorm2d(out), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widened by 1x1, each channel by itself in 3x3, narrowed by 1x1; a shortcut where size and channels stay."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *([ConvNormReLU6(channels, wide, 1)] if expansion > 1 else []),
            ConvNormReLU6(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.shortcut else out


class MobileNetV2(Encoder):
    """An encoder whose deep map is that of 320 channels.

    The 1x1 convolution to 1,280 channels that follows in the classifier (`features.18`) is left out: it widens the map
    for pooling and would make the context module four times as expensive.
    """

    unused = ("features.18.", "classifier.")
    channels = (24, 32, 96, 320)
    taps = (3, 6, 13, 17)  # the last block of every stride

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.strides = held(output_stride)
        blocks: list[nn.Module] = [ConvNormReLU6(3, 32, 3, stride=2)]
        channels = 32
        for expansion, out, count, stride in BLOCKS:
            for number in range(count):
                blocks.append(InvertedResidual(channels, out, 1 if number else stride, expansion))
                channels = out
        self.features = nn.Sequential(*blocks)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # see `resnet.conv`
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        set_output_stride((self.features[7:14], self.features[14:]), output_stride)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        x, maps = image_B3HW, []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps
