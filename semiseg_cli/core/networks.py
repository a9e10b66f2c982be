"""What a segmentation network is made of, and what methods and sizes may know of it.

Shapes: B images, K classes, H W input pixels, C channels, h w feature pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from semiseg_cli.core.types import at_least_float32

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, RGB in [0, 1]


@dataclass(frozen=True)
class Out:
    """What a network says: logits float32 at input size, and the features that losses of papers act on."""

    logits_BKHW: Tensor
    context: Tensor  # output of the context module (ASPP, a pyramid), at the encoder's last stride
    fused: Tensor  # input of the classifier: at stride 4, or at an eighth of a patch
    maps: tuple[Tensor, ...] = ()  # what the encoder gave, finest first


@dataclass(frozen=True)
class Origin:
    """Where an encoder's first weights are from: what they are called ("": they were random), and their licence."""

    weights: str = ""
    licence: str = ""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Origin:
        """What a checkpoint says of it; those from before it was kept say nothing."""
        said = meta.get("encoder")
        return cls(said["weights"], said["licence"]) if said else cls("unknown")


class Compilable(nn.Module):
    """What `train.compile` compiles, wherever it is: its tensors have a few shapes, the same in every step."""


class Encoder(Compilable, ABC):
    """Images to maps, finest first, and what decoders and sizes must know of it.

    Of an image of H x W pixels, a map of stride s has ceil(H / s) x ceil(W / s) values.
    """

    channels: tuple[int, ...]  # of its maps
    strides: tuple[int, ...]  # of its maps, in pixels of the image
    multiple: int = 1  # sides of the images it takes are multiples of this
    mean: tuple[float, ...] = MEAN  # of the images it was trained on, RGB in [0, 1]: what it is given has mean 0 and
    std: tuple[float, ...] = STD  # deviation 1
    origin: Origin = Origin()
    remark: str = ""  # what a user should know of it
    unused: tuple[str, ...] = ()  # beginnings of names in a classifier's weights that it has no place for

    @abstractmethod
    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """The maps of images normalised with `mean` and `std`."""

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a published file by this encoder's names, where a publisher has others."""
        return dict(tensors)


@dataclass(frozen=True)
class Need:
    """What a decoder asks of the strides of an encoder's maps."""

    words: str
    fits: Callable[[Sequence[int]], bool]


def _is_pyramid(strides: Sequence[int]) -> bool:
    steps = all(coarse in (fine, 2 * fine) for fine, coarse in pairwise(strides))
    return strides[0] == 4 and strides[-1] in (8, 16, 32) and steps


PYRAMID = Need("a pyramid: strides of 4, 8, 16 and 32, perhaps held at 8 or 16", _is_pyramid)
EQUAL = Need("four maps of one stride", lambda strides: len(strides) == 4 and len(set(strides)) == 1)
ANY = Need("maps", lambda strides: True)


class Decoder(Compilable, ABC):
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
