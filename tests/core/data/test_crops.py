"""The weak view on the device is the host's: images to within a grey level, masks and padding entirely."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg_cli.core.data.crops import FIXED_POINT, crops, sources
from semiseg_cli.core.data.warp import apply_warp, draw_warp

SIZES = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4)
SCALES = st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.1, 0.5), (2.0, 12.0)])


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), SIZES, st.integers(32, 80), SCALES, st.sampled_from([0.0, 10.0, 180.0]))
def test_crops_are_those_of_the_host(
    seed: int, sizes: list[tuple[int, int]], side: int, scale: tuple[float, float], rotation: float
) -> None:
    """Noise shows every fault of a position. Flips are drawn, and padding, wherever a scaled image is small."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    masks = [rng.integers(0, 255, size, dtype=np.uint8) for size in sizes]
    warps = [draw_warp(rng, *size, side, scale, rotation) for size in sizes]
    host = [apply_warp(*parts, side) for parts in zip(warps, images, masks, strict=True)]
    starts = np.cumsum([0, *(height * width for height, width in sizes)])[:-1]
    place = torch.from_numpy(np.column_stack([starts, np.array(sizes)]))
    inverse = torch.from_numpy(np.stack([cv2.invertAffineTransform(warp.matrix) for warp in warps]))
    rgb = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images]))
    label = torch.from_numpy(np.concatenate([mask.reshape(-1) for mask in masks]))
    found = crops(rgb, place, inverse, side, label)
    image, mask, valid = (np.stack(parts) for parts in zip(*host, strict=True))
    assert {name: x.dtype for name, x in found.items()} == dict.fromkeys(("image", "valid", "mask"), torch.uint8)
    assert np.array_equal(found["valid"].numpy(), valid)
    assert not ((found["mask"].numpy() != mask) & ~halfway(inverse.numpy(), side)).any()
    apart = np.abs(found["image"].numpy().astype(int) - image)
    assert apart.max() <= (0 if FIXED_POINT else 1)
    assert "mask" not in crops(rgb, place, inverse, side)


def halfway(inverse_B23: np.ndarray, side: int) -> np.ndarray:
    """Where OpenCV 5 may take either of two pixels: none of OpenCV 4."""
    y, x = np.mgrid[:side, :side]
    source = inverse_B23 @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    near = np.abs(source % 1 - 0.5).min(1).reshape(-1, side, side) < 1e-4
    return near & (not FIXED_POINT)


def test_a_crop_of_known_pixels() -> None:
    """Twice as large and flipped: worked out by hand, without OpenCV."""
    rgb = torch.tensor([0, 100, 40, 60], dtype=torch.uint8)[:, None].repeat(1, 3)  # rows (0, 100) and (40, 60)
    matrix = np.array([[-2.0, 0, 2.5], [0, 2, 0.5]])  # x' + 0.5 = 4 - 2 (x + 0.5)
    inverse = torch.from_numpy(cv2.invertAffineTransform(matrix))[None]
    x, y = sources(inverse, 5)[0][0]
    assert x[0].tolist() == [1.25, 0.75, 0.25, -0.25, -0.75]
    assert y[:, 0].tolist() == [-0.25, 0.25, 0.75, 1.25, 1.75]
    label = torch.tensor([1, 2, 3, 4], dtype=torch.uint8)
    found = crops(rgb, torch.tensor([[0, 2, 2]]), inverse, 5, label)
    assert found["image"][0, :, :, 0].tolist() == [
        [100, 75, 25, 0, 0], [90, 70, 30, 10, 0], [70, 60, 40, 30, 0], [60, 55, 45, 40, 0], [0] * 5,
    ]  # fmt: skip
    assert found["mask"][0].tolist() == [[2, 2, 1, 1, 255]] * 2 + [[4, 4, 3, 3, 255]] * 2 + [[255] * 5]
    assert found["valid"][0].tolist() == [[1, 1, 1, 1, 0]] * 4 + [[0] * 5]
