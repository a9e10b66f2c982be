"""Random views of a micro-batch, computed on the device from keyed draws: the `Views` that methods are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.ops.draws import Draws
from semiseg_cli.core.types import Images
from semiseg_cli.core.views import cutmix, photometric
from semiseg_cli.core.views import patches as patching


class DeviceViews:
    """Views of the images in `draws.slots`. Two calls with one key give the same draw, whoever calls.

    mean, std: of the encoder's training images, per channel, in [0, 1]. size: height and width of the crops.
    colour: strength of the strong views' colour augmentation, in [0, 1]. cutmix: probability of a CutMix box.
    """

    def __init__(
        self,
        draws: Draws,
        mean: Tensor,
        std: Tensor,
        size: tuple[int, int],
        colour: float = 1.0,
        cutmix: float = 0.5,
    ) -> None:
        self.draws, self.mean, self.std, self.size = draws, mean, std, size
        self.colour, self.cutmix = colour, cutmix
        self.device = mean.device

    def weak(self, images: Images) -> Tensor:
        """The crop as it came from the host, normalised: float32 (B, 3, H, W)."""
        return self._normalise(images.rgb01_B3HW)

    def strong(self, images: Images, key: str, colour: bool = True) -> Tensor:
        """Colour jitter, grayscale and blur of the weak crop, normalised. Geometry is untouched."""
        if not colour or not self.colour:
            return self.weak(images)
        u = self.draws.uniform(f"strong/{key}", photometric.DRAWS)
        matrix, weight = photometric.colour_matrices(u, self.colour)
        with torch.autocast(self.device.type, enabled=False):
            out = photometric.recolour(images.rgb01_B3HW, self._to(matrix), self._to(weight))
            return self._normalise(photometric.blur(out, self._to(photometric.blur_kernels(u, self.colour))))

    def boxes(self, key: str, rectangles: int = 1) -> Tensor:
        """CutMix masks: bool (B, H, W), True where the partner goes.

        One rectangle: UniMatch's box, empty where `cutmix` says so. More: see `draw_rectangles`; where two of them
        overlap, the image comes back.
        """
        if rectangles == 1:
            boxes = cutmix.draw_boxes(self.draws.uniform(f"boxes/{key}", cutmix.DRAWS), *self.size, self.cutmix)
            return cutmix.box_mask(self._to(boxes), *self.size)
        u = self.draws.uniform(f"boxes/{key}", 4 * rectangles)
        corners = self._to(cutmix.draw_rectangles(u, *self.size, rectangles))
        masks = cutmix.box_mask(corners.flatten(0, 1), *self.size)
        return masks.view(-1, rectangles, *self.size).sum(1).remainder(2).bool()

    def patches(
        self, key: str, patch: int, ratio: float, kind: patching.Kind = "random", exact: bool = True
    ) -> Tensor:
        """Patch masks: bool (B, H, W), True where a square of `patch` pixels is hidden; see `draw_patches`."""
        rows, cols = patching.grid_size(*self.size, patch)
        u = self.draws.uniform(f"patches/{key}", patching.draws(kind, rows, cols))
        grid = patching.draw_patches(u, rows, cols, ratio, kind, exact)
        return patching.patch_mask(self._to(grid), patch, *self.size)

    def uniform(self, key: str, count: int) -> Tensor:
        """Numbers of a paper's own, (B, count) in [0, 1)."""
        return self._to(self.draws.uniform(key, count))

    def partners(self, key: str) -> Tensor:
        """CutMix partners within the micro-batch: an order (B,) without fixed points, where B > 1."""
        return self._to(self.draws.derangement(f"partners/{key}"))

    def channels(self, key: str, maps: Sequence[Tensor], rate: float = 0.5) -> list[Tensor]:
        """Channel dropout factors (B, C, 1, 1) for each map, 0 with probability `rate`, else 1/(1 - rate)."""
        factors = []
        for level, features in enumerate(maps):
            keep = self.draws.uniform(f"channels/{key}/{level}", features.shape[1]) >= rate
            factors.append(self._to(keep / (1.0 - rate))[:, :, None, None])
        return factors

    def _normalise(self, rgb01_B3HW: Tensor) -> Tensor:
        out = (rgb01_B3HW - self.mean[:, None, None]) / self.std[:, None, None]
        return out.contiguous(memory_format=torch.channels_last)

    def _to(self, table: np.ndarray[Any, Any]) -> Tensor:
        """A host table on the device without waiting for it; floats as float32."""
        tensor = torch.from_numpy(np.ascontiguousarray(table, np.float32 if table.dtype == np.float64 else None))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
