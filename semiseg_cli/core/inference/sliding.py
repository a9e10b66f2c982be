"""Class probabilities of whole images or of overlapping windows, over several scales and mirrored if asked.

The windows are those of the field's Cityscapes protocol, a step of int(stride * side), softmax summed where they
overlap, but that the last ones at the right and lower border are moved back instead of truncated: a window of a few
pixels has no context to judge them by. A 1024x2048 image at 801 and 2/3 gives 8 windows. Where a network takes
multiples of 14 pixels only, say, windows have such sides (798).
Windows of equal shape, of all images of the batch, share one forward: in eval mode that changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import torch
from torch import Tensor

from semiseg_cli.core.inference import overlaps
from semiseg_cli.core.inference.overlaps import Window, softmax
from semiseg_cli.core.ops.sizes import fit_image, fit_side, resize

Net = Callable[[Tensor], Tensor]  # normalised B3HW -> logits BKHW at input size; may state a `multiple` of sides


def multiple_of(net: Net) -> int:
    """Of the sides that suit a network: what it states, 1 where it states nothing."""
    multiple: int = getattr(net, "multiple", 1)
    return multiple


def spans(side: int, window: int, stride: float, multiple: int = 1) -> list[tuple[int, int]]:
    """Begin and end of the windows along one side in pixels; the last ends at the border, and is as long as the others.

    A side shorter than the window is one truncated window. multiple: of the sides that suit a network.
    """
    window = fit_side(window, multiple)
    step = max(1, int(round(window * stride, 6)))
    count = 1 + ceil(max(side - window, 0) / step)
    begins = (min(i * step, max(side - window, 0)) for i in range(count))
    return [(begin, min(begin + window, side)) for begin in begins]


def windows(
    height: int, width: int, window: int, stride: float, multiple: int = 1
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Windows of an image: (height, width) of the window -> its (top, left) corners."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for top, bottom in spans(height, window, stride, multiple):
        for left, right in spans(width, window, stride, multiple):
            groups.setdefault((bottom - top, right - left), []).append((top, left))
    return groups


@torch.no_grad()
def predict(
    net: Net,
    image_B3HW: Tensor,
    *,
    window: int = 0,
    stride: float = 2 / 3,
    batch: int = 8,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Tensor:
    """Probabilities BKHW (they sum to 1 over K) of normalised images, in the precision of the logits, at least float32.

    net:    may state a `multiple`, and then brings images to sides that suit it by itself.
    window: side of the sliding window in pixels; 0: the whole image at once.
    stride: step of the window as a fraction of its side, in (0, 1].
    batch:  most images or windows per forward.
    scales: the image is resized by each factor and the probabilities, resized back, are averaged.
    flip:   average with the prediction of the mirrored input.
    """
    height, width = image_B3HW.shape[-2:]
    total: Tensor | None = None
    for factor in scales:
        # At factor 1 the network resizes by itself what does not suit it: there it has logits to resize back.
        scaled = image_B3HW if factor == 1 else fit_image(image_B3HW, multiple_of(net), factor)
        if window:
            probs = _slide(net, scaled, window, stride, batch, flip)
        else:
            probs = torch.cat([_probabilities(net, chunk, flip) for chunk in torch.split(scaled, batch)])
        probs = resize(probs, (height, width))
        total = probs if total is None else total + probs
    assert total is not None, "at least one scale"
    return total if len(scales) == 1 else total / len(scales)


@torch.no_grad()
def labels(net: Net, image_B3HW: Tensor, *, window: int = 0, stride: float = 2 / 3, batch: int = 8) -> Tensor:
    """The class that `predict` finds likeliest at every pixel, uint8 BHW, in less time: see `overlaps`."""
    count, _, height, width = image_B3HW.shape
    if not window:
        return torch.cat([net(chunk).max(1).indices.to(torch.uint8) for chunk in torch.split(image_B3HW, batch)])
    label_BHW = torch.empty(count, height, width, dtype=torch.uint8, device=image_B3HW.device)
    seen: list[list[Window]] = [[] for _ in range(count)]
    done = 0  # rows, which no further window covers
    (((h, w), corners),) = windows(height, width, window, stride, multiple_of(net)).items()
    places = [(b, top, left) for top, left in corners for b in range(count)]
    for start in range(0, len(places), batch):
        chunk, rest = places[start : start + batch], places[start + batch :]
        crops = torch.stack([image_B3HW[b, :, top : top + h, left : left + w] for b, top, left in chunk])
        for (b, top, left), logits_Khw in zip(chunk, net(crops), strict=True):
            seen[b].append(Window(top, left, logits_Khw))
        rows = slice(done, rest[0][1] if rest else height)
        for b in range(count):
            overlaps.decide(seen[b], rows, label_BHW[b])
            seen[b] = [one for one in seen[b] if one.bottom > rows.stop]
        done = rows.stop
    return label_BHW


def _slide(net: Net, image_B3HW: Tensor, window: int, stride: float, batch: int, flip: bool) -> Tensor:
    """Probabilities of overlapping windows, averaged where they overlap."""
    count, _, height, width = image_B3HW.shape
    total: Tensor | None = None
    cover_HW = image_B3HW.new_zeros(height, width)
    for (h, w), corners in windows(height, width, window, stride, multiple_of(net)).items():
        for top, left in corners:
            cover_HW[top : top + h, left : left + w] += 1
        places = [(b, top, left) for top, left in corners for b in range(count)]
        for start in range(0, len(places), batch):
            chunk = places[start : start + batch]
            crops = torch.stack([image_B3HW[b, :, top : top + h, left : left + w] for b, top, left in chunk])
            probs = _probabilities(net, crops, flip)
            if total is None:
                total = probs.new_zeros(count, probs.shape[1], height, width)
            for (b, top, left), prob in zip(chunk, probs, strict=True):
                total[b, :, top : top + h, left : left + w] += prob
    assert total is not None, "an image has at least one window"
    return total.div_(cover_HW)


def _probabilities(net: Net, image_B3HW: Tensor, flip: bool) -> Tensor:
    probs = softmax(net(image_B3HW), 1)
    return (probs + softmax(net(image_B3HW.flip(-1)), 1).flip(-1)) / 2 if flip else probs
