"""DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611), as the field's semi-supervised methods wire it.

The width follows the deep map's channels, see `width`. There is no dropout; every upsampling is bilinear, in register,
which at sides of 16 n + 1 is the field's align_corners=True, unless that or nearest is asked for. Convolutions keep
PyTorch's initialisation, as in the field's code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.ops.batchnorm import BatchNorm2d
from semiseg_cli.core.ops.register import enlarge
from semiseg_cli.core.types import Decoder, Out

RATES = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}  # of the context module's 3x3 convolutions, by output stride
LOW_WIDTH = 48  # of the low-level map


def width(deep_channels: int) -> int:
    """Channels of the context module and of the fusing convolutions alike.

    The field's rule is an eighth of the deep map (256 of 2,048). An eighth starves the small backbones: they have 64,
    and `tiny` 48. Fusing with 256 channels at stride 4 would be nine tenths of a MobileNetV2's cost.
    """
    return 48 if deep_channels < 256 else max(deep_channels // 8, 64)


class Upsample(nn.Module):
    """Enlarges maps to a size; `build_segmenter` sets the mode: bilinear (in register), corners (aligned) or nearest.

    strided: False for maps that are means over parts of another, whose corners are always aligned.
    """

    mode = "bilinear"

    def __init__(self, strided: bool = True) -> None:
        super().__init__()
        self.strided = strided

    def forward(self, x_BChw: Tensor, size: tuple[int, int]) -> Tensor:
        if self.mode == "nearest":
            return F.interpolate(x_BChw, size, mode="nearest")
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


class ContextModule(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1, three dilated 3x3 and the image's mean, concatenated, then a 1x1."""

    def __init__(self, channels: int, out: int, rates: Sequence[int]) -> None:
        super().__init__()
        dilated = [ConvNormReLU(channels, out, 3, rate) for rate in rates]
        self.branches = nn.ModuleList([ConvNormReLU(channels, out), *dilated, ImagePooling(channels, out)])
        self.project = ConvNormReLU(out * len(self.branches), out)

    def forward(self, x_BChw: Tensor) -> Tensor:
        out: Tensor = self.project(torch.cat([branch(x_BChw) for branch in self.branches], 1))
        return out


class DeepLabV3Plus(Decoder):
    """Context of the deep map, fused with the low-level map at stride 4, classified there.

    channels: of the encoder's maps, finest first; the first map is the low-level one, the last the deep one.
    output_stride: of the deep map, 8, 16 or 32.
    """

    def __init__(self, channels: Sequence[int], classes: int, output_stride: int) -> None:
        super().__init__()
        out = width(channels[-1])
        self.widths = {"context": out, "fused": out}
        self.context = ContextModule(channels[-1], out, RATES[output_stride])
        self.low = ConvNormReLU(channels[0], LOW_WIDTH)
        self.fuse = nn.Sequential(ConvNormReLU(LOW_WIDTH + out, out, 3), ConvNormReLU(out, out, 3))
        self.classifier = nn.Conv2d(out, classes, 1)
        self.upsample = Upsample()

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The context of the deep map, and the classifier's input at stride 4."""
        context, low = self.context(maps[-1]), self.low(maps[0])
        return context, self.fuse(torch.cat([low, self.upsample(context, (low.shape[2], low.shape[3]))], 1))

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        """Logits at `size` (height, width) from the encoder's maps; at least float32, also under autocast."""
        context, fused = self.features(maps)
        logits = self.classifier(fused)
        # Confidence thresholds are finer than bfloat16, so the last upsampling is done in float32.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return Out(self.upsample(logits, size), context, fused, tuple(maps))
