"""PiD, the pixel decoder of S4MIM (arXiv 2411.08756, section III-B): from an encoder's maps back to the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.s4mim.classwise import class_convolution
from semiseg_cli.core.networks import Compilable, Decoder
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.types import at_least_float32

LARGEST_HEADS = 256  # MB


class PixelDecoder(Compilable):
    """The structure of a semantic decoder (PiD*), and as last layer a head for each class: 3x3 to RGB, without bias.

    body: a fresh decoder, whose classifier is taken off. Raises UsageError for more classes than memory is good for,
    which takes a library's user: index masks end at 255 classes, whose heads have 7 MB.
    """

    def __init__(self, body: Decoder, classes: int, seed: int) -> None:
        super().__init__()
        width = body.widths["fused"]
        megabytes = classes * 27 * width * 4 / 2**20
        if megabytes > LARGEST_HEADS:
            raise UsageError(
                f"{classes} classes need {megabytes:,.0f} MB of reconstruction heads, {width} channels for each class",
                why=f"heads of more than {LARGEST_HEADS} MB are not made",
                fix="fewer classes, or another method",
            )
        body.classifier = nn.Identity()
        self.body, self.heads = body, nn.Conv2d(width, 3 * classes, 3, bias=False)
        nn.init.kaiming_uniform_(self.heads.weight, 5**0.5, generator=torch.Generator().manual_seed(seed))

    @contextmanager
    def untaught(self) -> Iterator[None]:
        """Within it, what is computed teaches what comes before the decoder, and not the decoder."""
        taught = [parameter for parameter in self.parameters() if parameter.requires_grad]
        try:
            for parameter in taught:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in taught:
                parameter.requires_grad_(True)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """fea = PiD* o E(x * m), eq. 3."""
        return self.body.features(maps)[1]

    def reconstruct(self, fea_BDhw: Tensor, group_BHW: Tensor, classwise: bool) -> Tensor:
        """r = sum_c Head_c(fea_c), eqs. 6 and 7, at the size of `group`; or sum_c Head_c(fea), basic MIM."""
        heads = self.heads.weight.unflatten(0, (-1, 3))
        if classwise:
            r = class_convolution(fea_BDhw, sample(group_BHW, (fea_BDhw.shape[2], fea_BDhw.shape[3])), heads)
        else:
            r = at_least_float32(F.conv2d(fea_BDhw, heads.sum(0), padding=1))
        enlarged: Tensor = self.body.upsample(r, (group_BHW.shape[1], group_BHW.shape[2]))
        return enlarged
