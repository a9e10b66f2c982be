"""A segmentation network: an encoder and a decoder that stay apart, because papers act between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg_cli.core.types import Net, Out


class Segmenter(Net):
    """Encoder (image to maps, finest first) and decoder (maps to `Out`).

    freeze_bn: the encoder's batch norms always normalise with their running statistics, in training mode too, and
    leave them as they are; their scale and shift are still trained.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, freeze_bn: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder, self.freeze_bn = encoder, decoder, freeze_bn
        self.train()

    @property
    def widths(self) -> Mapping[str, int]:
        return cast(Mapping[str, int], self.decoder.widths)

    def train(self, mode: bool = True) -> Segmenter:
        super().train(mode)
        if self.freeze_bn:
            for module in self.encoder.modules():
                if isinstance(module, _BatchNorm):  # SyncBatchNorm as well
                    module.eval()
        return self

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16 and the output stride (rounded up) of normalised images."""
        maps: list[Tensor] = self.encoder(image_B3HW)
        return maps

    def decode(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        """Logits at `size` (height, width) and the features behind them."""
        out: Out = self.decoder(maps, size)
        return out

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Logits (B, K, H, W) at the images' size, float32 also under autocast."""
        height, width = image_B3HW.shape[2:]
        return self.decode(self.encode(image_B3HW), (height, width)).logits_BKHW
