"""The weak view on the device: what `warp.apply_warp` does, of images that lie there, for a whole batch at once.

By OpenCV 4 pixels are the same: it rounds where one comes from to 1/32 of a pixel (1/1024 for masks) and interpolates
in integers. OpenCV 5 has sources in float32: images are then the same to within one grey level, and padding and masks
but for pixels whose source lies halfway between two, to the last bit, which may be the other.
"""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from semiseg_cli.core.data.spec import IGNORE

FIXED_POINT = int(cv2.__version__.split(".")[0]) < 5


def crops(
    rgb_P3: Tensor, place_B3: Tensor, inverse_B23: Tensor, side: int, label_P: Tensor | None = None
) -> dict[str, Tensor]:
    """`image` (B, side, side, 3), `valid` (1 inside the image, 0 on padding) and, of labels, `mask`; all uint8.

    rgb_P3: pixels of many images, row by row and one after the other; label_P: their labels. place_B3: of every image
    its first pixel there, its height and its width. inverse_B23: float64, from a crop's pixels to the image's.
    Padding is black in the image and ignore in the mask.
    """
    start, height, width = (place_B3[:, part, None, None] for part in range(3))

    def at(x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
        """Where pixels lie; beyond a border those at the border."""
        x, y = x_BHW.long().clamp(min=0).minimum(width - 1), y_BHW.long().clamp(min=0).minimum(height - 1)
        return start + y * width + x

    between_B2HW, nearest_B2HW = sources(inverse_B23, side)
    left, top = between_B2HW.floor().unbind(1)
    across, down = (between_B2HW - between_B2HW.floor()).float()[..., None].unbind(1)
    upper, lower = (
        torch.lerp(rgb_P3[at(left, row)].float(), rgb_P3[at(left + 1, row)].float(), across) for row in (top, top + 1)
    )
    x, y = nearest_B2HW.unbind(1)
    valid = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    image = (torch.lerp(upper, lower, down) + 0.5).floor().byte() * valid[..., None]
    found = {"image": image, "valid": valid.byte()}
    return found if label_P is None else found | {"mask": label_P[at(x, y)].masked_fill(~valid, IGNORE)}


def sources(inverse_B23: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where the pixels of square crops come from, (B, 2, side, side), x before y, and the nearest pixels to it."""
    pixel = torch.arange(side, dtype=torch.float64, device=inverse_B23.device)
    if FIXED_POINT:
        by_x, by_y, shift = inverse_B23[..., None].unbind(2)
        steps = ((by_y * pixel + shift) * 1024).round()[..., None] + (by_x * pixel * 1024).round()[:, :, None]
        return ((steps + 16) / 32).floor() / 32, ((steps + 512) / 1024).floor()
    by_x, by_y, shift = inverse_B23.float().double()[..., None].unbind(2)  # whose products are exact, as in the fused
    row = ((by_y * pixel).float() + shift.float()).double()
    found = (by_x[:, :, None] * pixel + row[..., None]).float()
    return found, found.round()
