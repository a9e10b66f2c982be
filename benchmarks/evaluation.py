"""From logits to classes in an evaluation: ours beside the public code's way, on the CPU, in one process.

    python -m benchmarks.evaluation [--classes 19] [--height 1024] [--width 2048] [--window 801] [--rounds 5]

Public evaluations of Cityscapes (LiheYoung/UniMatch, 2023) add up the softmax of every window of an image, and take the
largest. Both are given the logits of the same windows, and nothing is timed but what comes after the network; the
labels are compared. Logits: those of a network that knows its task are smooth, and windows agree on most pixels (here
about as often as those of a network trained on 23 images of CamVid: 92 pixels of 100); of noise, they agree by chance.
Times are seconds of the processor, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.inference import sliding

STRIDE = 2 / 3


def logits_of(kind: str, classes: int, height: int, width: int) -> Tensor:
    """Of a whole image. smooth: a value every 32 pixels, enlarged."""
    rng = torch.Generator().manual_seed(0)
    if kind == "noise":
        return 2 * torch.randn(1, classes, height, width, generator=rng)
    coarse = 4 * torch.randn(1, classes, height // 32, width // 32, generator=rng)
    return F.interpolate(coarse, (height, width), mode="bilinear")


def windows_of(kind: str, classes: int, height: int, width: int, window: int) -> list[tuple[int, int, Tensor]]:
    """Top, left and logits of every window: the image's, and what windows differ by, a tenth as large."""
    whole = logits_of(kind, classes, height, width)
    (((h, w), corners),) = sliding.windows(height, width, window, STRIDE).items()
    rng, found = torch.Generator().manual_seed(1), []
    for top, left in corners:
        own = F.interpolate(0.2 * torch.randn(1, classes, h // 32, w // 32, generator=rng), (h, w), mode="bilinear")
        noise = 2 * torch.randn(1, classes, h, w, generator=rng) if kind == "noise" else own
        found.append((top, left, whole[:, :, top : top + h, left : left + w] + noise))
    return found


def public_way(windows: list[tuple[int, int, Tensor]], height: int, width: int) -> Tensor:
    total = torch.zeros(1, windows[0][2].shape[1], height, width)
    for top, left, logits in windows:
        total[:, :, top : top + logits.shape[2], left : left + logits.shape[3]] += logits.softmax(dim=1)
    return total.argmax(dim=1)


def our_way(windows: list[tuple[int, int, Tensor]], height: int, width: int) -> Tensor:
    """Through `sliding.labels`, one window a forward, as on a CPU, with a network that has its answers ready."""
    answers = iter([logits for _, _, logits in windows])
    side = windows[0][2].shape[2]
    return sliding.labels(
        lambda crops: next(answers), torch.zeros(1, 3, height, width), window=side, stride=STRIDE, batch=1
    )


def seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    for name, value in (("classes", 19), ("height", 1024), ("width", 2048), ("window", 801), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    size = asked.height, asked.width
    torch.set_num_threads(1)
    for kind in ("smooth", "noise"):
        windows = windows_of(kind, asked.classes, *size, asked.window)
        differ = int((public_way(windows, *size) != our_way(windows, *size)).sum())
        ways = [partial(way, windows, *size) for way in (public_way, our_way)]
        rows = [[seconds(way) for way in ways] for _ in range(asked.rounds)]
        public, ours = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = sorted(one / other for one, other in rows)
        print(
            f"{kind}: {len(windows)} windows, public {1e3 * public:.0f} ms, ours {1e3 * ours:.0f} ms, "
            f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
            f"{differ} of {size[0] * size[1]} labels differ"
        )


if __name__ == "__main__":
    main()
