"""How somebody wants a network applied: what `eval`, `predict` and their stages take as one value.

Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from semiseg_cli.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network is to be applied; None, and `auto`, stand for what it was evaluated with in its training.

    window: `auto`, `none` (whole images), or the side of the sliding window in pixels, 32 or more.
    stride: step of the window as a fraction of its side, in (0, 1].
    batch:  most images or windows of equal shape per forward.
    scales: the image is resized by each factor, in (0, 8], and the predictions are averaged.
    flip:   average with the prediction of the mirrored image.
    Raises UsageError for values that no prediction can be made with.
    """

    window: str = "auto"
    stride: float | None = None
    batch: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        resolve_window(self.window, 0)
        if self.stride is not None and not 0 < self.stride <= 1:
            what = f"stride {self.stride} is not possible: a fraction of the window, in (0, 1]"
            raise UsageError(what, fix="--stride 2/3")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch {self.batch} is not possible: it must be at least 1", fix="--batch 8")
        if not self.scales or not all(0 < factor <= 8 for factor in self.scales):
            what = f"scales {list(self.scales)} are not possible: factors in (0, 8]"
            raise UsageError(what, fix="--scales 0.75,1,1.25")


def resolve_window(window: str, protocol: int) -> int:
    """`auto` (the dataset's protocol), `none` (whole images) or a side, in pixels; 0: whole images."""
    if window == "auto":
        return protocol
    if window == "none":
        return 0
    if not window.isdecimal() or int(window) < 32:
        raise UsageError(f"window '{window}' is not auto, none, or a side of 32 pixels or more", fix="--window 801")
    return int(window)


AS_TRAINED = Inference()
