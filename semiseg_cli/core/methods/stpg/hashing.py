"""Random numbers of pixels and channels: a function of a number drawn for the image, and of the place.

A table of them, as `views` makes for what is drawn once per image, would be as large as the features. A hash makes them
on the device, the same on all processors. Numbers are all of int32, negative ones included, whose products wrap.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def from_uniform(u: Any) -> Any:
    """Numbers from uniform ones in [0, 1): a recipe for `Views.table`."""
    return (u * 2.0**32 - 2.0**31).astype("int32")


def scrambled(x: Tensor) -> Tensor:
    """Each number turned into another, one to one, every bit of which depends on all of the first's.

    "lowbias32" (C. Wellons, Prospecting for hash functions, 2018). In place but for the shifts: it runs over as many
    numbers as there are features.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        x = (x >> shift).bitwise_and_((1 << 32 - shift) - 1).bitwise_xor_(x).mul_(factor)
    return (x >> 16).bitwise_and_(0xFFFF).bitwise_xor_(x)


def of_places(number_N: Tensor, places: int) -> Tensor:
    """A number for each of `places` places below each of N numbers, (N, places)."""
    return scrambled(number_N[:, None] ^ scrambled(torch.arange(places, dtype=torch.int32, device=number_N.device)))


def less_than(number: Tensor, probability: float) -> Tensor:
    """True with that probability."""
    return number < int((probability - 0.5) * 2**32)
