"""Heads for the maps of a frozen encoder, which nothing surrounds: `linear` (DINOv2, Oquab et al., 2023, section 7.4),
and `mlp` with one hidden layer of 64.

Every channel is normalised, every map is brought to the size of the finest, and each of its pixels is classified by
itself. So the maps of an image, computed once, are all that training a head needs: `semiseg probe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import Upsample
from semiseg_cli.core.networks import ANY, EQUAL, Decoder
from semiseg_cli.core.ops.batchnorm import BatchNorm2d

HIDDEN = 64


class Linear(Decoder):
    """A linear classifier of all maps.

    patches: whether a value stands for a patch of the image, its stride wide, and not for one pixel.
    """

    need = ANY

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.patches = EQUAL.fits(strides)
        self.norms = nn.ModuleList([BatchNorm2d(width, affine=False) for width in channels])
        self.upsample = Upsample(patches=self.patches)
        self._classify(channels, classes)

    def _classify(self, channels: Sequence[int], classes: int) -> None:
        self.widths = {"context": channels[-1], "fused": sum(channels)}
        self.classifier = nn.Conv2d(sum(channels), classes, 1)

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The last map, normalised, and the classifier's input at the size of the finest."""
        normed = [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
        return normed[-1], self._fused(normed)

    def _fused(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(self._brought(maps), 1)

    def _brought(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = (maps[0].shape[2], maps[0].shape[3])
        return [x if x.shape[2:] == size else self.upsample(x, size) for x in maps]

    @torch.no_grad()
    def standardise(self, images: Iterable[Sequence[Tensor]]) -> None:
        """Set the norms to mean and variance of the maps (1, C, h, w) of some images, over all of their pixels."""
        sums: list[Tensor] = []
        for maps in images:
            flat = [x[0].flatten(1).double() for x in maps]
            found = [torch.stack([x.sum(1), x.square().sum(1), torch.full_like(x[:, 0], x.shape[1])]) for x in flat]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        for norm, (total, square, count) in zip(self.norms, sums, strict=True):
            mean, mean_square = total / count, square / count
            variance = (mean_square - mean.square()).clamp(min=0)
            norm.load_state_dict(norm.state_dict() | {"running_mean": mean, "running_var": variance})


class MLP(Linear):
    """The same with a hidden layer. It is linear in the maps, so that they are enlarged when they have 64 channels."""

    def _classify(self, channels: Sequence[int], classes: int) -> None:
        self.widths = {"context": channels[-1], "fused": HIDDEN}
        layers = [nn.Conv2d(width, HIDDEN, 1, bias=place == 0) for place, width in enumerate(channels)]
        self.hidden = nn.ModuleList(layers)
        self.classifier = nn.Conv2d(HIDDEN, classes, 1)

    def _fused(self, maps: Sequence[Tensor]) -> Tensor:
        parts = self._brought([hidden(x) for hidden, x in zip(self.hidden, maps, strict=True)])
        return torch.stack(parts).sum(0).relu()
