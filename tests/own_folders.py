"""Folders as somebody brings them, and what `prepare_folder` is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def save(path: Path, seed: int, size: tuple[int, int], mask: bool = False, **how: Any) -> None:
    """A photo of noise, or a mask of three classes, of this height and width. how: as Pillow's `save` takes it."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 3, size, np.uint8) if mask else rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **how)


def given(base: Path, **more: Any) -> dict[str, Any]:
    """photos/, masks/, more/ and classes.txt below `base` as the dataset `mine`, with a long side of 24 pixels."""
    return {
        "root": base / "data", "name": "mine", "labeled": base / "photos", "masks": base / "masks",
        "unlabeled": base / "more", "classes": base / "classes.txt", "long_side": 24, **more,
    }  # fmt: skip
