"""A network and all that belongs to applying it: normalisation, size, window, scales and precision, in one value.

Evaluation, the training loop's included, `semiseg predict`, the pictures of predictions and `semiseg_cli.load` all go
through here, so that a network is used as it was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semiseg_cli.core.data.photos import reduced, reduced_size
from semiseg_cli.core.inference import sliding
from semiseg_cli.core.inference.enlarging import decided
from semiseg_cli.core.inference.options import AS_TRAINED, Inference, resolve_window
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.settings import EvalConfig

LARGE_PIXELS, LARGE_WINDOW = 2**22, 1024  # a whole image beyond this goes through windows of that side
CPU_PIXELS = 2**18  # per forward on a CPU: beyond it an image takes up to twice as long (maps outgrow the caches)


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A network, called with images: window, stride, batch, scales and flip are those of `sliding.predict`.

    mean, std: per channel of images in [0, 1]. amp: bfloat16 autocast. It is called with images as `seen`
    gives them; what it says of them is of their own size after `enlarging`, or as `labels`.
    """

    net: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    window: int = 0  # pixels; 0: whole images
    stride: float = 2 / 3
    batch: int = 8
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    amp: bool = False
    long_side: int = 0  # larger images are seen reduced to it; 0: as they are
    spare: bool = False  # very large images are never seen whole, also where `window` is 0

    @classmethod
    def of(
        cls,
        net: nn.Module,
        meta: Mapping[str, Any],
        device: torch.device,
        how: Inference = AS_TRAINED,
        protocol: int | None = None,
    ) -> Predictor:
        """The network of a checkpoint, given what its file says (`meta`), applied as asked for.

        protocol: the window of the dataset, where it is another one than the checkpoint's; pixels, 0 for whole images.
        """
        config, data = meta["config"], meta["data"]
        trained = EvalConfig(**{name: config[f"eval.{name}"] for name in ("window", "stride", "batch")})
        normalise = meta["normalise"]
        side = data["window"] if protocol is None else protocol
        most = data.get("long_side", 0)
        return cls.configured(net, trained, side, config["train.amp"], device, how, long_side=most, **normalise)

    @classmethod
    def configured(
        cls,
        net: nn.Module,
        config: EvalConfig,
        protocol: int,
        amp: str,
        device: torch.device,
        how: Inference = AS_TRAINED,
        *,
        long_side: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Predictor:
        """A network whose run has this configuration. amp: the run's train.amp. long_side: of its training images.

        The window is the nearest that suits the network, so that what is told of it is what was done.
        """
        window = resolve_window(config.window if how.window == "auto" else how.window, protocol)
        return cls(
            net=net,
            mean=mean,
            std=std,
            device=device,
            window=fit_side(window, sliding.multiple_of(net)) if window else 0,
            stride=config.stride if how.stride is None else how.stride,
            batch=config.batch if how.batch is None else how.batch,
            scales=how.scales,
            flip=how.flip,
            amp=in_bfloat16(amp, device),
            long_side=long_side,
            spare=how.window == "auto",
        )

    def seen(self, image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image as it is shown to the network."""
        return reduced(image_HW3, self.long_side)

    def window_of(self, height: int, width: int) -> int:
        """The window for images that are seen at this size, in pixels; 0: they are seen whole."""
        large = self.spare and not self.window and height * width > LARGE_PIXELS
        return LARGE_WINDOW if large else self.window

    def __call__(self, image_BHW3: Tensor) -> Tensor:
        """Probabilities BKHW on the device, as `sliding.predict` gives them, of uint8 images on any, as `seen`."""
        with self._autocast():
            return sliding.predict(
                self.net,
                self._normalised(image_BHW3),
                **self._windows(image_BHW3),
                scales=self.scales,
                flip=self.flip,
            )

    def labels(self, image_BHW3: Tensor, size: tuple[int, int]) -> Tensor:
        """The likeliest class of every pixel, uint8 BHW on the device, of images of `size` (height, width) as `seen`.

        Probabilities are computed only where averaging or enlarging them could change it.
        """
        if self.flip or tuple(self.scales) != (1,) or tuple(image_BHW3.shape[1:3]) != size:
            return decided(self(image_BHW3), size)[0]
        with self._autocast():
            return sliding.labels(self.net, self._normalised(image_BHW3), **self._windows(image_BHW3))

    def at_once(self, height: int, width: int) -> int:
        """Images of this size, or windows of them, per forward: `batch`, or fewer on a CPU if they are large."""
        if self.device.type != "cpu":
            return self.batch
        window = self.window_of(height, width)
        pixels = min(height, window or height) * min(width, window or width)
        return max(1, min(self.batch, CPU_PIXELS // pixels))

    def together(self, height: int, width: int) -> int:
        """Images of this size that fill a forward: windows of one image count one each."""
        height, width = reduced_size(height, width, self.long_side)
        window = self.window_of(height, width)
        how = window, self.stride, sliding.multiple_of(self.net)
        groups = sliding.windows(height, width, *how) if window else {}
        return max(1, self.at_once(height, width) // max(map(len, groups.values()), default=1))

    def _windows(self, image_BHW3: Tensor) -> dict[str, Any]:
        height, width = image_BHW3.shape[1:3]
        window, batch = self.window_of(height, width), self.at_once(height, width)
        return {"window": window, "stride": self.stride, "batch": batch}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def _normalised(self, image_BHW3: Tensor) -> Tensor:
        """Images B3HW on the device."""
        mean_311, std_311 = self._normalisation
        rgb01_B3HW = image_BHW3.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        return (rgb01_B3HW - mean_311) / std_311

    @cached_property
    def _normalisation(self) -> list[Tensor]:
        values = (self.mean, self.std)
        return [torch.as_tensor(each, dtype=torch.float32, device=self.device)[:, None, None] for each in values]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode, then the mode of every single module again (a frozen batch norm stays so while training)."""
        modes = [(module, module.training) for module in self.net.modules()]
        self.net.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def in_bfloat16(amp: str, device: str | torch.device) -> bool:
    """Whether a run's networks are evaluated in bfloat16: on CUDA, unless its train.amp is off.

    Never on a CPU, where training may use it: a number must not depend on what the CPU at hand has.
    """
    return torch.device(device).type == "cuda" and amp != "off"
