"""The types that travel through a training step, from loader to method.

Shapes: B images, K classes, H W input pixels, C channels, h w feature pixels. `rgb01_B3HW` is float32 in [0, 1],
`valid_BHW` bool (False on the padding of a crop), labels int64 with 255 (ignore) where nothing is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Clock:
    """Where the run stands. Drives every ramp, so that no method counts steps of its own."""

    step: int  # of this step, from 0
    steps: int  # of the whole run
    epoch: float = 0.0  # passes over the unlabeled list (the labeled one where there is no other)

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in [0, 1)."""
        return self.step / max(self.steps, 1)


@dataclass(frozen=True)
class Images:
    """Weakly augmented crops on the device. `mask_BHW` is None for unlabeled images: their masks are never opened."""

    rgb01_B3HW: Tensor
    valid_BHW: Tensor
    index_B: Tensor  # position of each image in its list
    mask_BHW: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One micro-batch. `second` is another weak draw of the same unlabeled images.

    `paired` is, for every unlabeled image, a weak draw of the labeled image most like it, with its mask.
    """

    labeled: Images
    clock: Clock
    unlabeled: Images | None = None
    second: Images | None = None
    paired: Images | None = None


@dataclass(frozen=True)
class Out:
    """What a network says: logits float32 at input size, and the features that losses of papers act on."""

    logits_BKHW: Tensor
    context: Tensor  # output of the context module (ASPP, a pyramid), at the encoder's last stride
    fused: Tensor  # input of the classifier, at stride 4
    maps: tuple[Tensor, ...] = ()  # what the encoder gave, finest first


class Encoder(nn.Module, ABC):
    """Images to maps, finest first, and what decoders and sizes must know of it.

    Of an image of H x W pixels, a map of stride s has ceil(H / s) x ceil(W / s) values.
    """

    channels: tuple[int, ...]  # of its maps
    strides: tuple[int, ...]  # of its maps, in pixels of the image
    multiple: int = 1  # sides of the images it takes are multiples of this
    unused: tuple[str, ...] = ()  # beginnings of names in a classifier's weights that it has no place for

    @abstractmethod
    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """The maps of normalised images."""


@dataclass(frozen=True)
class Need:
    """What a decoder asks of the strides of an encoder's maps."""

    words: str
    fits: Callable[[Sequence[int]], bool]


def _is_pyramid(strides: Sequence[int]) -> bool:
    steps = all(coarse in (fine, 2 * fine) for fine, coarse in pairwise(strides))
    return strides[0] == 4 and strides[-1] in (8, 16, 32) and steps


PYRAMID = Need("a pyramid: strides of 4, 8, 16 and 32, perhaps held at 8 or 16", _is_pyramid)
EQUAL = Need("maps of one stride", lambda strides: len(set(strides)) == 1)


class Decoder(nn.Module, ABC):
    """Maps to `Out`: features, then a classifier. Without the classifier, features for another task."""

    need: ClassVar[Need]
    classifier: nn.Module
    upsample: nn.Module  # enlarges maps (B, C, h, w) to a size (height, width)
    widths: Mapping[str, int]  # channels of what `Out` calls "context" and "fused"

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        """channels, strides: of the encoder's maps, finest first; they fit `need`."""
        super().__init__()

    @abstractmethod
    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `Out` calls context and fused."""

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        """Logits at `size` (height, width), at least float32 also under autocast, and the features on the way."""
        context, fused = self.features(maps)
        logits = at_least_float32(self.classifier(fused))  # bfloat16 would make steps of what is enlarged
        return Out(self.upsample(logits, size), context, fused, tuple(maps))


class Net(nn.Module, ABC):
    """A segmentation network: encoder and decoder apart, because papers act between them."""

    encoder: Encoder
    decoder: nn.Module

    @property
    def multiple(self) -> int:
        """Of its encoder: `encode` takes images whose sides are multiples of it."""
        return self.encoder.multiple

    @property
    @abstractmethod
    def widths(self) -> Mapping[str, int]:
        """Of the decoder."""

    @abstractmethod
    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""

    @abstractmethod
    def decode(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        """Logits at `size` (height, width), and the features on the way."""


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-labels of a view: class, confidence (maximum of the softmax), valid pixels, and the logits behind them."""

    label_BHW: Tensor
    conf_BHW: Tensor
    valid_BHW: Tensor
    logits_BKHW: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, logits_BKHW: Tensor, valid_BHW: Tensor) -> Pseudo:
        logits = at_least_float32(logits_BKHW.detach())
        conf, label = logits.softmax(1).max(1)
        return cls(label, conf, valid_BHW, logits)

    def take(self, order: Tensor) -> Pseudo:
        """The same images in another order (B,), for a CutMix partner from the batch."""
        return Pseudo(self.label_BHW[order], self.conf_BHW[order], self.valid_BHW[order], self.logits_BKHW[order])

    def mix(self, partner: Pseudo, boxes_BHW: Tensor) -> Pseudo:
        """CutMix: inside the boxes all four come from the partner."""
        box = boxes_BHW
        return Pseudo(
            torch.where(box, partner.label_BHW, self.label_BHW),
            torch.where(box, partner.conf_BHW, self.conf_BHW),
            torch.where(box, partner.valid_BHW, self.valid_BHW),
            torch.where(box[:, None], partner.logits_BKHW, self.logits_BKHW),
        )


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 is coarser than the thresholds of the papers; float64 is left alone for the tests that need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
