"""What decoders are made of: enlarging, convolution with norm, and the image's mean.

Convolutions keep PyTorch's initialisation, as in the field's code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.ops.batchnorm import BatchNorm2d
from semiseg_cli.core.ops.register import enlarge


class Upsample(nn.Module):
    """Enlarges maps to a size; `build_segmenter` sets the mode: bilinear (in register), corners (aligned) or nearest.

    strided: False where corners are always aligned: maps that are means over parts of another, and DPT's.
    patches: values belong to the middles of patches, not to every so many pixels from the first on.
    """

    mode = "bilinear"

    def __init__(self, strided: bool = True, patches: bool = False) -> None:
        super().__init__()
        self.strided, self.patches = strided, patches

    def forward(self, x_BChw: Tensor, size: tuple[int, int]) -> Tensor:
        if self.mode == "nearest":
            return F.interpolate(x_BChw, size, mode="nearest")
        if self.mode == "bilinear" and self.patches:
            return F.interpolate(x_BChw, size, mode="bilinear", align_corners=False)
        if self.mode == "bilinear" and self.strided:
            return enlarge(x_BChw, size)
        return F.interpolate(x_BChw, size, mode="bilinear", align_corners=True)


class ConvNormReLU(nn.Sequential):
    """Convolution without bias that keeps the size, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation, bias=False),
            BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class ImagePooling(nn.Module):
    """The mean of the map, through a 1x1 convolution, at every pixel.

    One image has one value per channel here, of which batch norm cannot take a variance (PyTorch raises). A batch of
    one image is therefore normalised with the running statistics, which it leaves as they are.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1, bias=False)
        self.norm = BatchNorm2d(out)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y, norm = self.conv(x_BChw.mean((2, 3), keepdim=True)), self.norm
        if self.training and len(y) == 1:
            y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            y = norm(y)
        # The concatenation is NHWC only if all of its parts are, and a plain `expand` is neither.
        nhwc = x_BChw.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if nhwc else torch.contiguous_format
        return F.relu(y).expand(-1, -1, *x_BChw.shape[2:]).contiguous(memory_format=layout)
