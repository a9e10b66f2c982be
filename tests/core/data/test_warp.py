"""The weak view: its distribution, where it puts every pixel, and that image, mask and valid stay aligned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.data.warp import Warp, apply_warp, draw_warp

HEIGHT, WIDTH = 40, 56


def sources(warp: Warp, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Where every pixel of the crop comes from: source y (crop, crop) and x."""
    (sx, _, tx), (_, sy, ty) = warp.matrix
    y, x = np.mgrid[:crop, :crop]
    return (y - ty) / sy, (x - tx) / sx


def test_scales_corners_and_flips() -> None:
    rng = np.random.default_rng(0)
    warps = [draw_warp(rng, HEIGHT, WIDTH, 32, (0.5, 2.0)) for _ in range(8000)]
    flipped = np.array([w.matrix[0, 0] < 0 for w in warps])
    longs = np.array([abs(w.matrix[0, 0]) * WIDTH for w in warps])
    assert abs(flipped.mean() - 0.5) < 0.02
    assert np.allclose(longs, longs.round())  # an integer, every one of them as often
    counts = np.bincount(longs.round().astype(int))
    assert counts.nonzero()[0].tolist() == list(range(28, 113))
    assert counts[28:].min() > 50
    assert counts[28:].max() < 150
    ratios = np.array([w.matrix[1, 1] / abs(w.matrix[0, 0]) for w in warps])
    assert np.abs(ratios - 1).max() < 0.5 / 20 + 1e-9  # the aspect is kept, to a pixel of the short side
    large = [w for w in warps if abs(w.matrix[0, 0]) * WIDTH == 96 and w.matrix[0, 0] > 0]
    left = np.array([w.matrix[0, 0] * 0.5 - 0.5 - w.matrix[0, 2] for w in large])
    assert left.min() > -1e-9
    assert left.max() < 96 - 32 + 1e-9
    assert abs(left.mean() - 32) < 6


@given(st.integers(0, 10**6), st.integers(20, 70), st.integers(20, 70), st.integers(24, 64))
def test_valid_pixels_are_those_that_come_from_the_image(seed: int, height: int, width: int, crop: int) -> None:
    warp = draw_warp(np.random.default_rng(seed), height, width, crop, (0.5, 2.0))
    image = np.full((height, width, 3), 7, np.uint8)
    out, labels, valid = apply_warp(warp, image, np.full((height, width), 3, np.uint8), crop)
    y, x = sources(warp, crop)
    inside = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)
    assert np.array_equal(valid.astype(bool), inside)
    assert np.array_equal(out, np.where(inside, 7, 0)[:, :, None].repeat(3, 2))  # black padding, no blended border
    assert np.array_equal(labels, np.where(inside, 3, 255))
    assert inside[0].any()  # the padding is at the bottom
    assert (inside[0] == inside[: inside.any(1).sum()]).all()


@given(st.integers(0, 10**6), st.sampled_from([(1.0, 2.0), (0.5, 1.0)]))
def test_every_pixel_shows_its_source(seed: int, scale: tuple[float, float]) -> None:
    """A ramp is interpolated exactly, so the crop's values are the coordinates they came from."""
    warp = draw_warp(np.random.default_rng(seed), HEIGHT, WIDTH, 48, scale)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([4 * x, 4 * y, 0 * x], 2).astype(np.uint8)
    out, labels, valid = apply_warp(warp, image, x.astype(np.uint8), 48)
    source_y, source_x = sources(warp, 48)
    inner = valid.astype(bool)
    inner &= (source_y > 0) & (source_y < HEIGHT - 1) & (source_x > 0) & (source_x < WIDTH - 1)
    assert np.abs(out[inner][:, 0] - 4 * source_x[inner]).max() < 0.75  # a fifth of a pixel: 1/32 of position, rounding
    assert np.abs(out[inner][:, 1] - 4 * source_y[inner]).max() < 0.75
    assert labels is not None
    assert np.abs(labels[inner] - source_x[inner]).max() < 0.5 + 1 / 16


@given(st.integers(0, 10**6))
def test_mask_and_image_stay_aligned(seed: int) -> None:
    """The image is painted by the mask: away from borders of classes the crop must be too."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, (5, 7)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    image = (50 * mask)[:, :, None].repeat(3, 2)
    warp = draw_warp(rng, HEIGHT, WIDTH, 64, (0.7, 2.0))
    out, labels, valid = apply_warp(warp, image, mask, 64)
    assert labels is not None
    box = np.ones((5, 5), np.uint8)
    far = (cv2.erode(labels, box) == cv2.dilate(labels, box)) & (valid == 1)
    far[[0, 1, -2, -1]] = far[:, [0, 1, -2, -1]] = False  # what lies beyond the crop is not known
    assert np.array_equal(out[far][:, 0], 50 * labels[far])
    assert far.sum() > 50
    assert set(np.unique(labels[valid == 1])) <= set(range(5))


@pytest.mark.parametrize("seed", range(6))
def test_enlarging_is_what_cv2_resize_gives(seed: int) -> None:
    """Resize, crop, pad, flip as separate steps, to within the rounding of positions to 1/32 pixel."""
    rng, crop = np.random.default_rng(seed), 64
    image = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 2)
    warp = draw_warp(rng, HEIGHT, WIDTH, crop, (1.0, 2.0))
    sx, sy = abs(warp.matrix[0, 0]), warp.matrix[1, 1]
    new_w, new_h = round(sx * WIDTH), round(sy * HEIGHT)
    tx = warp.matrix[0, 2] if warp.matrix[0, 0] > 0 else crop - 1 - warp.matrix[0, 2]
    left, top = round(0.5 * sx - 0.5 - tx), round(0.5 * sy - 0.5 - warp.matrix[1, 2])
    whole = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)[top : top + crop, left : left + crop]
    expected = np.zeros((crop, crop, 3), np.uint8)
    expected[: whole.shape[0], : whole.shape[1]] = whole
    if warp.matrix[0, 0] < 0:
        expected = expected[:, ::-1]
    out, _, _ = apply_warp(warp, image, None, crop)
    assert np.abs(out.astype(int) - expected).max() <= 2


def test_without_scale_or_margin_nothing_changes_but_the_flip() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), rng.integers(0, 9, (32, 32), dtype=np.uint8)
    seen = set()
    for _ in range(20):
        out, labels, valid = apply_warp(draw_warp(rng, 32, 32, 32, (1.0, 1.0)), image, mask, 32)
        flip = not np.array_equal(out, image)
        seen.add(flip)
        assert np.array_equal(out, image[:, ::-1] if flip else image)
        assert np.array_equal(labels, mask[:, ::-1] if flip else mask)
        assert valid.all()
    assert seen == {True, False}


def test_without_a_mask_there_is_none() -> None:
    warp = draw_warp(np.random.default_rng(0), HEIGHT, WIDTH, 32, (1.0, 1.0))
    out, labels, valid = apply_warp(warp, np.zeros((HEIGHT, WIDTH, 3), np.uint8), None, 32)
    assert labels is None
    assert out.shape == (32, 32, 3)
    assert valid.shape == (32, 32)


@given(st.integers(0, 10**6))
def test_a_rotation_turns_the_crop_and_blanks_what_is_outside(seed: int) -> None:
    """The same draw without it, turned about the crop's centre; every pixel's source by the inverse of the matrix."""
    plain, turned = (
        draw_warp(np.random.default_rng(seed), HEIGHT, WIDTH, 48, (0.5, 2.0), angle) for angle in (0.0, 30.0)
    )
    whole, other = (np.vstack([w.matrix, [0, 0, 1]]) for w in (plain, turned))
    step = other @ np.linalg.inv(whole)  # what was done after the plain warp
    assert np.allclose(step[:2, :2] @ step[:2, :2].T, np.eye(2))
    assert np.linalg.det(step[:2, :2]) == pytest.approx(1)
    assert abs(np.degrees(np.arctan2(step[1, 0], step[0, 0]))) <= 30
    assert step @ [23.5, 23.5, 1] == pytest.approx([23.5, 23.5, 1])

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.stack([4 * x, 4 * y, 0 * x + 9], 2).astype(np.uint8)
    out, labels, valid = apply_warp(turned, ramp, x.astype(np.uint8), 48)
    at_y, at_x = np.mgrid[:48, :48]
    source = np.einsum("ij,jyx->iyx", np.linalg.inv(other), np.stack([at_x, at_y, np.ones_like(at_x)]))
    outside = (source[0] < -0.6) | (source[0] > WIDTH - 0.4) | (source[1] < -0.6) | (source[1] > HEIGHT - 0.4)
    inside = (source[0] > -0.4) & (source[0] < WIDTH - 0.6) & (source[1] > -0.4) & (source[1] < HEIGHT - 0.6)
    assert not valid[outside].any()
    assert valid[inside].all()
    assert labels is not None
    assert np.array_equal(valid == 0, labels == 255)
    assert not out[valid == 0].any()
    assert (out[valid == 1][:, 2] == 9).all()
    inner = (source[0] > 0) & (source[0] < WIDTH - 1) & (source[1] > 0) & (source[1] < HEIGHT - 1)
    assert np.abs(out[inner][:, 0] - 4 * source[0][inner]).max(initial=0) < 0.8
    assert np.abs(out[inner][:, 1] - 4 * source[1][inner]).max(initial=0) < 0.8


def test_angles_are_uniform() -> None:
    rng = np.random.default_rng(1)
    warps = [draw_warp(rng, HEIGHT, WIDTH, 32, (1.0, 1.0), 10.0) for _ in range(2000)]
    sines = [w.matrix[1, 0] * np.sign(np.linalg.det(w.matrix[:, :2])) for w in warps]
    angles = np.degrees(np.arctan2(sines, [w.matrix[1, 1] for w in warps]))
    assert np.quantile(np.abs(angles), [0.25, 0.5, 0.75, 1.0]) == pytest.approx([2.5, 5, 7.5, 10], abs=0.4)
    assert abs(np.mean(angles)) < 0.5
