"""Photos of 16 bits a channel: which of their values become 0 to 255.

Thermal, medical and industrial cameras use a little of 16 bits, whose upper byte is then nearly the same everywhere.
The range is one for a whole folder, so that equal values stay equal; it is kept with the dataset and its networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semiseg_cli.core.reading import regular

Levels = tuple[int, int]  # the values that become 0 and 255; what is beyond becomes them too

FULL: Levels = (0, 65535)
BEYOND = 0.001  # share of the pixels that may lie beyond the range on either side: hot and dead ones
FLAT = 8  # a photo that uses less than this part of the range shows next to nothing


def levels_of(data: Mapping[str, Any]) -> Levels:
    """What a checkpoint or a dataset says under `levels`."""
    low, high = data.get("levels", FULL)
    return int(low), int(high)


def to_bytes(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """16-bit values as uint8 of the same shape."""
    if levels == FULL:
        return (values >> 8).astype(np.uint8)
    low, high = levels
    table = np.rint((np.arange(65536) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return np.asarray(table[values], np.uint8)


def is_deep(path: Path) -> bool:
    """Whether a file has 16 bits a channel, from its header; False for one that cannot be read."""
    try:
        regular(path)
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return True
            if image.format == "PNG":
                with path.open("rb") as file:
                    return file.read(25)[24] == 16  # the header's bit depth: Pillow says RGB of 16-bit colour, too
            bits = image.tag_v2.get(258, (8,)) if image.format == "TIFF" else (8,)  # type: ignore[attr-defined]
            return max(bits) == 16
    except Exception:  # whoever decodes it says what is wrong
        return False


def histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """How many of the values are 0, 1, ... 65535."""
    return np.bincount(values.ravel(), minlength=65536).astype(np.int64)


def used(counts: NDArray[np.int64]) -> Levels:
    """The range that all values of a histogram lie in, but for BEYOND of them on either side."""
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    low, high = int(np.searchsorted(share, BEYOND, "right")), int(np.searchsorted(share, 1 - BEYOND))
    return low, max(high, low + 1)


def chosen(counts: NDArray[np.int64]) -> Levels:
    """The range for photos with this histogram: what they use, or FULL where they use half of it or more."""
    low, high = used(counts)
    return FULL if 2 * (high - low) >= FULL[1] else (low, high)


def shows_little(photo: Levels, levels: Levels) -> bool:
    """Whether a photo that uses these values is nearly one grey under this range."""
    inside = min(photo[1], levels[1]) - max(photo[0], levels[0])
    return inside * FLAT < levels[1] - levels[0]
