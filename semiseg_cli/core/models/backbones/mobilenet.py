"""MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381), with parameters named as torchvision names them."""

from __future__ import annotations

import torchvision.models
from torch import Tensor, nn

from semiseg_cli.core.models.backbones.dilation import held, set_output_stride
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.batchnorm import BatchNorm2d


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
        blocks = torchvision.models.mobilenet_v2(weights=None, norm_layer=BatchNorm2d).features
        self.features = nn.Sequential(*blocks[: self.taps[-1] + 1])
        set_output_stride((self.features[7:14], self.features[14:]), output_stride)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        x, maps = image_B3HW, []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps
