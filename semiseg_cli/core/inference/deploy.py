"""A trained network in somebody's own program: `from semiseg_cli import load`.

Needs torch, numpy, safetensors and the network's own modules; nothing of the command line, the data or the methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semiseg_cli.core.inference import sliding
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.training.checkpoint import load_network


class Deployed(nn.Module):
    """A segmentation network with its normalisation and window: an image in, class indices out.

    `classes` are the names behind the indices, `palette` their colours, `meta` all that the file says of itself; `net`
    is the network alone, from normalised images (B, 3, H, W) to logits (B, K, H, W).
    """

    mean_311: Tensor
    std_311: Tensor

    def __init__(self, net: Segmenter, meta: dict[str, Any]) -> None:
        super().__init__()
        self.net, self.meta = net, meta
        self.classes: list[str] = meta["data"]["classes"]
        self.palette: list[list[int]] = meta["data"]["palette"]
        for name in ("mean", "std"):
            values = torch.tensor(meta["normalise"][name], dtype=torch.float32)
            self.register_buffer(f"{name}_311", values[:, None, None])

    @torch.no_grad()
    def forward(self, image_HW3: Any) -> Tensor:
        """Class indices, uint8 (H, W), of an upright RGB image: uint8 (H, W, 3) as tensor, array or Pillow image.

        Images are meant to be about as large as those it was trained on: `meta["data"]["long_side"]`, if not 0.
        """
        image = image_HW3 if isinstance(image_HW3, Tensor) else torch.from_numpy(np.array(image_HW3))
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image is uint8 (height, width, 3), not {image.dtype} {tuple(image.shape)}")
        rgb01_13HW = image.to(self.mean_311.device).permute(2, 0, 1)[None].float() / 255
        data, config = self.meta["data"], self.meta["config"]
        probs_1KHW = sliding.predict(
            self.net,
            (rgb01_13HW - self.mean_311) / self.std_311,
            window=data["window"],
            stride=config["eval.stride"],
            batch=config["eval.batch"],
        )
        return probs_1KHW[0].argmax(0).to(torch.uint8)


def load(path: str | Path, device: str | torch.device = "cpu") -> Deployed:
    """A checkpoint or exported network, ready to use. Raises CheckpointError for any other file."""
    net, meta = load_network(Path(path), device)
    return Deployed(net, meta).to(device).eval()
