"""All images of a run as bytes in the memory of the training device, where steps warp them: `data.cache = device`.

The host decodes every image once, before the first step. From then on it tells a step which images it has and how they
are warped, in 80 bytes an image, for which it needs no help of other processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.crops import crops
from semiseg_cli.core.data.decode import Pixels
from semiseg_cli.core.data.loader import MASKED, HostBatch, MicroBatches, Plan
from semiseg_cli.core.data.warp import Warp
from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.machine import free_memory


class Pool:
    """The pixels of all images one after the other, labeled ones first, whose masks lie in the same places.

    Raises DeviceError where they do not fit. advance: called after each image that was decoded, in any thread.
    """

    def __init__(
        self,
        labeled: Pixels,
        unlabeled: Pixels | None,
        device: torch.device,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        self.labeled, self.unlabeled = labeled, unlabeled
        images = [(pixels, index) for pixels in (labeled, unlabeled) if pixels for index in range(len(pixels))]
        areas = [math.prod(pixels.shape(index)) for pixels, index in images]
        self.starts = np.cumsum([0, *areas])
        count, masked = int(self.starts[-1]), int(self.starts[len(labeled)])
        _check_room(3 * count + masked, len(images), device)
        self.rgb_P3 = torch.empty(count, 3, dtype=torch.uint8, device=device)
        self.label_P = torch.empty(masked, dtype=torch.uint8, device=device)

        def bring(image: tuple[Pixels, int]) -> None:
            self._put(*image)
            advance()

        on_all_cores(bring, images)

    def _put(self, pixels: Pixels, index: int) -> None:
        """Decode an image and lay it in its place."""
        image, mask = pixels[index]
        start, height, width = self.place(pixels, index)
        here = slice(start, start + height * width)
        self.rgb_P3[here] = torch.from_numpy(image.reshape(-1, 3))
        if mask is not None:
            self.label_P[here] = torch.from_numpy(mask.reshape(-1))

    def place(self, pixels: Pixels, index: int) -> tuple[int, int, int]:
        """First pixel, height and width of an image of one of the lists."""
        before = 0 if pixels is self.labeled else len(self.labeled)
        return int(self.starts[before + index]), *pixels.shape(index)

    def cut(self, host: HostBatch, side: int) -> HostBatch:
        """A micro-batch of `Placed` as the loader would have brought it, but on the device."""
        batch = {key: value.to(self.rgb_P3.device, non_blocking=True) for key, value in host.items()}
        for name in [key.removesuffix("_place") for key in host if key.endswith("_place")]:
            place, inverse = batch.pop(f"{name}_place"), batch.pop(f"{name}_inverse")
            found = crops(self.rgb_P3, place, inverse, side, self.label_P if name in MASKED else None)
            batch |= {f"{name}_{key}": value for key, value in found.items()}
        return batch


class Placed(MicroBatches):
    """Micro-batches of which every image is its place in a pool, and where the pixels of its crop come from."""

    def __init__(self, plan: Plan, pool: Pool) -> None:
        super().__init__(plan, pool.labeled, pool.unlabeled)
        self.far = False  # all of them are here
        self.pool = pool

    def crop(self, pixels: Pixels, index: int, warp: Warp) -> dict[str, np.ndarray[Any, Any]]:
        place = self.pool.place(pixels, index)
        return {"place": np.array(place), "inverse": cv2.invertAffineTransform(warp.matrix)}


def _check_room(needed: int, images: int, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > free:
        raise DeviceError(
            f"{images:,} images do not fit on the device: they need {needed:,} bytes, and {free:,} are free",
            why="data.cache is device, and every image lies there, decoded",
            fix="-s data.cache=host, or smaller images: -s data.long_side=PIXELS",
        )
