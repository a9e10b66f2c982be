"""From the probabilities of a reduced image to what they say of the image: enlarged, then decided, band by band.

Probabilities are enlarged and not classes, whose borders would be stairs; of a large photo they never lie in memory as
a whole (6000x4000 pixels of 21 classes are 2 GB).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

BAND = 2**22  # numbers of a band


def bands(probs_BKhw: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the image, `size` being its (height, width), from the first to the last, with their probabilities BKrW.

    Bilinear between the middles of pixels, since a pixel of a reduced image is the mean of the area that it covers.
    """
    batch, classes, h, w = probs_BKhw.shape
    height, width = size
    if (h, w) == size:
        yield slice(0, height), probs_BKhw
        return
    many = max(1, BAND // (batch * classes * width))
    for begin in range(0, height, many):
        rows = slice(begin, min(begin + many, height))
        place_r = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=probs_BKhw.device)
        place_r = ((place_r + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
        above_r = place_r.long()
        below_r = (above_r + 1).clamp(max=h - 1)
        share_r1 = (place_r - above_r)[:, None].to(probs_BKhw.dtype)
        band_BKrw = torch.lerp(probs_BKhw[:, :, above_r], probs_BKhw[:, :, below_r], share_r1)
        yield rows, F.interpolate(band_BKrw, (len(place_r), width), mode="bilinear", align_corners=False)


def enlarged(probs_BKhw: Tensor, size: tuple[int, int]) -> Tensor:
    """All bands: probabilities BKHW."""
    return torch.cat([band for _, band in bands(probs_BKhw, size)], 2)


def decided(probs_BKhw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The likeliest class of every pixel of the image, uint8 BHW, and its probability."""
    parts = [band.max(1) for _, band in bands(probs_BKhw, size)]
    label_BHW = torch.cat([label.to(torch.uint8) for _, label in parts], 1)
    return label_BHW, torch.cat([conf for conf, _ in parts], 1)
