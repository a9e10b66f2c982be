"""Colour and blur against one operation at a time in float64, and the frequencies of the recipe."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from semiseg_cli.core.views.photometric import DRAWS, RADIUS, blur, blur_kernels, colour_matrices, recolour

Floats = NDArray[np.float64]
LUMA = np.array([0.299, 0.587, 0.114])
RNG = np.random.default_rng(0)


def draw(
    brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue: float = 0.0, gray: bool = False
) -> Floats:
    """Uniform numbers that give these factors (hue in turns) and no blur."""
    jitters = [brightness - 0.5, contrast - 0.5, saturation - 0.5, 2 * hue + 0.5]
    return np.array([[0.0, *jitters, 0.0 if gray else 1.0, 1.0, 0.0]])


def image(low: float = 0.0, high: float = 1.0, side: int = 6) -> Floats:
    return RNG.uniform(low, high, (3, side, side))


def recoloured(x: Floats, u: Floats) -> Floats:
    """Without the final clipping."""
    matrix, weight = colour_matrices(u)
    return np.einsum("ij,jhw->ihw", matrix[0], x) + weight[0] @ x.mean((1, 2))


def luma(x: Floats) -> Floats:
    return np.einsum("c,chw->hw", LUMA, x)


def rotated(x: Floats, turns: float) -> Floats:
    """A turn of the chroma about the grey axis, in the coordinates of analog television."""
    yiq = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    y, i, q = np.einsum("ij,jhw->ihw", yiq, x)
    chroma = (i + 1j * q) * np.exp(2j * math.pi * turns)
    return np.einsum("ij,jhw->ihw", np.linalg.inv(yiq), np.stack([y, chroma.real, chroma.imag]))


def test_nothing_is_the_identity() -> None:
    x = image()
    assert np.allclose(recoloured(x, draw()), x)


def test_brightness_alone_scales() -> None:
    x = image()
    assert np.allclose(recoloured(x, draw(brightness=0.7)), 0.7 * x)


def test_contrast_pulls_to_the_mean_luma() -> None:
    x = image()
    assert np.allclose(recoloured(x, draw(contrast=0.6)), 0.6 * x + 0.4 * luma(x).mean())


def test_saturation_blends_with_the_luma() -> None:
    x = image()
    assert np.allclose(recoloured(x, draw(saturation=1.4)), 1.4 * x - 0.4 * luma(x))


def test_grayscale_is_the_luma() -> None:
    x = image()
    assert np.allclose(recoloured(x, draw(saturation=1.4, hue=0.1, gray=True)), luma(x))


@pytest.mark.parametrize("turns", [-0.25, -0.1, 0.07, 0.25])
def test_hue_keeps_the_luma_and_the_strength_of_the_colour(turns: float) -> None:
    x = image()
    found = recoloured(x, draw(hue=turns))
    assert np.allclose(found, rotated(x, turns))
    assert np.allclose(luma(found), luma(x))
    assert not np.allclose(found, x)


def test_four_quarter_turns_are_none() -> None:
    x = y = image()
    for _ in range(4):
        y = recoloured(y, draw(hue=0.25))
    assert np.allclose(x, y)


def test_the_four_jitters_commute() -> None:
    """Whatever the order in which torchvision would apply them, the result is the one matrix and offset."""
    b, c, s, h = 1.3, 0.6, 1.4, -0.13
    steps: list[Callable[[Floats], Floats]] = [
        lambda x: b * x,
        lambda x: c * x + (1 - c) * luma(x).mean(),
        lambda x: s * x + (1 - s) * luma(x),
        lambda x: rotated(x, h),
    ]
    x = image()
    expected = recoloured(x, draw(b, c, s, h))
    for order in itertools.permutations(steps):
        y = x
        for step in order:
            y = step(y)
        assert np.allclose(y, expected)


def test_recolour_on_the_device_uses_each_images_own_parameters_and_clips() -> None:
    x = np.stack([image(), image()])
    u = np.concatenate([draw(1.5, 1.4, 1.2, 0.1), draw(0.8, 0.7, 0.9, -0.2)])
    matrix, weight = colour_matrices(u)
    found = recolour(torch.tensor(x), torch.tensor(matrix), torch.tensor(weight)).numpy()
    for i in range(2):
        plain = recoloured(x[i], u[i : i + 1])
        assert np.allclose(found[i], plain.clip(0, 1))
    assert recoloured(x[0], u[:1]).max() > 1  # there was something to clip


def test_frequencies_and_ranges_of_the_colours() -> None:
    u = RNG.random((20_000, DRAWS))
    matrix, weights = colour_matrices(u)
    weight = weights.sum(1)  # of the mean luma
    both = np.einsum("i,bij,j->b", LUMA, matrix, np.ones(3))  # brightness x contrast
    brightness = both + weight
    contrast = both / brightness
    gray = np.abs(matrix - matrix[:, :1]).max((1, 2)) < 1e-9
    jitter = np.abs(weight) > 1e-12
    assert abs(jitter.mean() - 0.8) < 0.01
    assert abs(gray.mean() - 0.2) < 0.01
    assert abs((jitter & gray).mean() - 0.16) < 0.01  # independent
    plain = ~jitter & ~gray
    assert np.allclose(matrix[plain], np.eye(3))

    for factor in (brightness[jitter], contrast[jitter]):
        assert factor.min() > 0.5 - 1e-9
        assert factor.max() < 1.5 + 1e-9
        assert abs(factor.mean() - 1) < 0.01
        assert abs(factor.std() - math.sqrt(1 / 12)) < 0.005
    yiq = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    chroma = (yiq @ matrix @ np.linalg.inv(yiq) / both[:, None, None])[jitter & ~gray]
    saturation = np.hypot(chroma[:, 1, 1], chroma[:, 2, 1])
    hue = np.arctan2(chroma[:, 2, 1], chroma[:, 1, 1]) / (2 * math.pi)
    assert saturation.min() > 0.5 - 1e-6
    assert saturation.max() < 1.5 + 1e-6
    assert abs(saturation.mean() - 1) < 0.01
    assert np.abs(hue).max() < 0.25 + 1e-6
    assert abs(hue.std() - 0.5 / math.sqrt(12)) < 0.005


def test_frequency_and_range_of_the_blur() -> None:
    taps = blur_kernels(RNG.random((20_000, DRAWS)))
    assert taps.shape == (20_000, 2 * RADIUS + 1)
    assert np.allclose(taps.sum(1), 1)
    assert np.allclose(taps, taps[:, ::-1])
    blurred = taps[:, RADIUS] < 1
    sharp = taps[:, RADIUS] == 1
    assert abs(blurred.mean() - 0.5) < 0.03  # the smallest sigmas round to the impulse
    assert (blurred ^ sharp).all()
    ratio = taps[blurred, RADIUS + 1] / taps[blurred, RADIUS]  # exp(-1 / (2 sigma^2))
    sigma = np.sqrt(-0.5 / np.log(ratio))
    assert sigma.min() >= 0.1
    assert sigma.max() <= 2.0
    assert abs(sigma.mean() - 1.05) < 0.04


@pytest.mark.parametrize(("side", "border"), [(21, "mirror"), (RADIUS + 1, "mirror"), (RADIUS, "nearest")])
def test_blur_is_the_gaussian_filter_with_each_images_own_sigma(side: int, border: str) -> None:
    x = np.stack([image(side=side) for _ in range(3)])
    sigmas = [0.4, 1.1, 1.9]
    u = np.array([[0, 0, 0, 0, 0, 0, 0.0, (sigma - 0.1) / 1.9] for sigma in sigmas])
    found = blur(torch.tensor(x), torch.tensor(blur_kernels(u))).numpy()
    for i, sigma in enumerate(sigmas):
        for channel in range(3):
            expected = ndimage.gaussian_filter(x[i, channel], sigma, mode=border, radius=RADIUS)
            assert np.allclose(found[i, channel], expected, atol=1e-12)


def test_a_constant_image_does_not_change() -> None:
    x = torch.full((2, 3, 9, 9), 0.3, dtype=torch.float64)
    u = RNG.random((2, DRAWS))
    u[:, 6] = 0
    assert torch.allclose(blur(x, torch.tensor(blur_kernels(u))), x)


def test_strength_scales_the_jitter_and_how_often_there_is_grayscale_and_blur() -> None:
    x = image()
    matrix, weight = colour_matrices(draw(brightness=1.4, contrast=0.6, saturation=1.5, hue=0.1), 0.5)
    half = draw(brightness=1.2, contrast=0.8, saturation=1.25, hue=0.05)
    assert np.allclose(np.einsum("ij,jhw->ihw", matrix[0], x) + weight[0] @ x.mean((1, 2)), recoloured(x, half))
    assert np.allclose(colour_matrices(RNG.random((50, DRAWS)), 0.0)[0], np.eye(3))

    u = np.random.default_rng(0).random((20_000, DRAWS))
    matrices = [colour_matrices(u, s)[0] for s in (1, 0.5)]
    gray = [(np.abs(m - m[:, :1]).max((1, 2)) < 1e-9).mean() for m in matrices]
    blurred = [(blur_kernels(u, s)[:, RADIUS] < 1).mean() for s in (1, 0.5, 0)]
    assert gray == pytest.approx([0.2, 0.1], abs=0.01)
    assert blurred == pytest.approx([0.5, 0.25, 0.0], abs=0.01)
