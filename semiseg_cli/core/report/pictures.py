"""Pictures within a page: scaled down, and written into it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from semiseg_cli.core.viz.tiles import Tile

SIDE = 320  # the longer side of a picture, in pixels; smaller ones are enlarged by a whole factor


@dataclass(frozen=True)
class Picture:
    """uri: the picture itself. width, height: in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Case:
    """An image that a network was wrong about: percentages, and how it looks."""

    name: str
    miou: float
    wrong: float
    photo: Picture
    truth: Picture
    prediction: Picture
    errors: Picture


def picture(tile: Tile, *, photo: bool = False) -> Picture:
    """A tile as JPEG where it is a photo, else as PNG, which keeps its colours."""
    longer = max(tile.shape)
    factor = SIDE / longer if longer > SIDE else SIDE // longer
    height, width = (max(1, round(side * factor)) for side in tile.shape)
    image, buffer = Image.fromarray(tile.draw(height, width)), io.BytesIO()
    if photo:
        image.save(buffer, "JPEG", quality=82, subsampling=0)
    else:
        image.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height)
