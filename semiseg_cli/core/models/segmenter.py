"""A segmentation network: an encoder and a decoder that stay apart, because papers act between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg_cli.core.networks import Decoder, Encoder, Net, Out
from semiseg_cli.core.ops.sizes import fit_image, resize


class Segmenter(Net):
    """Encoder (image to maps, finest first) and decoder (maps to `Out`).

    freeze_bn: the encoder's batch norms always normalise with their running statistics, in training mode too, and
    leave them as they are; their scale and shift are still trained.
    freeze_encoder: the whole encoder stays as it is, in evaluation mode, and nothing is kept for a gradient of it.
    """

    decoder: Decoder

    def __init__(
        self, encoder: Encoder, decoder: Decoder, *, freeze_bn: bool = False, freeze_encoder: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.freeze_bn, self.freeze_encoder = freeze_bn, freeze_encoder
        if freeze_encoder:
            encoder.requires_grad_(False)
        self.train()

    @property
    def widths(self) -> Mapping[str, int]:
        return self.decoder.widths

    def train(self, mode: bool = True) -> Segmenter:
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        elif self.freeze_bn:
            for module in self.encoder.modules():
                if isinstance(module, _BatchNorm):  # SyncBatchNorm as well
                    module.eval()
        return self

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        """The encoder's maps of normalised images, whose sides are multiples of `multiple`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            maps: list[Tensor] = self.encoder(image_B3HW)
        return maps

    def decode(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        """Logits at `size` (height, width) and the features behind them."""
        out: Out = self.decoder(maps, size)
        return out

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Logits (B, K, H, W) at the images' size, whatever it is, float32 also under autocast.

        Where the encoder does not take it, it is shown the nearest size that it takes, and the logits are resized.
        """
        height, width = image_B3HW.shape[2:]
        fitting = fit_image(image_B3HW, self.multiple)
        seen = (fitting.shape[2], fitting.shape[3])
        return resize(self.decode(self.encode(fitting), seen).logits_BKHW, (height, width))
