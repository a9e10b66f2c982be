"""A trained network in somebody's own program: `from semiseg_cli import load`.

Needs torch, torchvision (with its NumPy and Pillow), safetensors and the network's own modules; nothing of the command
line, the datasets or the methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semiseg_cli.core.data.depths import levels_of
from semiseg_cli.core.data.photos import as_rgb
from semiseg_cli.core.inference.enlarging import enlarged
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.training.checkpoint import load_network


class Deployed(nn.Module):
    """A segmentation network and how it is applied: an image in, class indices out, as `semiseg predict` has them.

    `classes` are the names behind the indices, `palette` their colours, `meta` all that the file says of itself; `net`
    is the network alone, from normalised images (B, 3, H, W) to logits (B, K, H, W).
    """

    def __init__(self, net: Segmenter, meta: dict[str, Any]) -> None:
        super().__init__()
        self.net, self.meta = net, meta
        self.classes: list[str] = meta["data"]["classes"]
        self.palette: list[list[int]] = meta["data"]["palette"]

    @torch.no_grad()
    def forward(self, image: Any, *, probabilities: bool = False) -> Tensor:
        """Class indices of an image, uint8 (H, W); or the probabilities of all classes, float32 (K, H, W).

        image: an image file, a Pillow image (turned upright as its EXIF says), or an upright RGB image, uint8
        (H, W, 3) as array or tensor. An image larger than those it was trained on, `meta["data"]["long_side"]`, is
        seen reduced to their size. Raises DataError for a file that cannot be read, ValueError for another array.
        """
        given = image.numpy(force=True) if isinstance(image, Tensor) else image
        rgb_HW3 = as_rgb(given, levels_of(self.meta["data"]))
        predictor = Predictor.of(self.net, self.meta, next(self.net.parameters()).device)
        seen_1hw3 = torch.from_numpy(predictor.seen(rgb_HW3))[None]
        size = (rgb_HW3.shape[0], rgb_HW3.shape[1])
        return enlarged(predictor(seen_1hw3), size)[0] if probabilities else predictor.labels(seen_1hw3, size)[0]


def load(path: str | Path, device: str | torch.device = "cpu") -> Deployed:
    """A checkpoint or exported network, ready to use. Raises CheckpointError for any other file."""
    net, meta = load_network(Path(path), device)
    return Deployed(net, meta).to(device).eval()
