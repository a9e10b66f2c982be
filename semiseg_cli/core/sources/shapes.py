"""A synthetic dataset in which labels matter: textured, overlapping shapes on cluttered ground, drawn from a seed.

Each class has a tint and a texture of its own, either of which is random in one object of ten, so that neither
outline, nor colour, nor texture alone tells the class. The cross is a third as frequent as the other shapes.
An image is a function of (seed, part, index, size): how many images there are changes none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from semiseg_cli.core.sources.colours import distinct

VERSION = 1  # of the drawing: goes up when the same seed gives other images
CLASSES = ("background", "ellipse", "triangle", "rectangle", "star", "cross")
PALETTE = distinct(len(CLASSES))
LICENCE = "CC0-1.0 (synthetic)"

_FREQUENCY = np.array([3, 3, 3, 3, 1]) / 13
_HUE = (0.02, 0.33, 0.60, 0.14, 0.80)  # of a class's tint, in [0, 1)
_ODD = 0.1  # probability that an object's tint is not its class's, and likewise its texture
_RADIUS = (12 / 128, 30 / 128)  # of an object, as a fraction of the side
_PARTS = {"train": 0, "val": 1}

Points = NDArray[Any]  # float64 N x 2, in the unit circle
Image = NDArray[Any]  # float32 HxW or HxWx3, in [0, 1]


def draw(seed: int, part: str, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image, uint8 size x size x 3 RGB, and its mask, uint8 size x size of class indices.

    part: train or val. The first train images show one class each on top, so that ten labels cover every class.
    """
    rng = np.random.default_rng([seed, _PARTS[part], index])
    kinds = rng.choice(len(_FREQUENCY), size=rng.integers(2, 5), p=_FREQUENCY)
    if part == "train" and index < len(_FREQUENCY):
        kinds[-1] = index
    image, mask = _ground(rng, size), np.zeros((size, size), np.uint8)
    for kind in kinds:
        _place(rng, image, mask, int(kind))
    image = cv2.GaussianBlur(image, (3, 3), 0.6) + rng.normal(0, 0.03, image.shape).astype(np.float32)
    return (image.clip(0, 1) * 255).astype(np.uint8), mask


def _ground(rng: Generator, size: int) -> Image:
    """Clouds in two colours, lines of any colour, light that falls off to one side."""
    dark, bright = rng.uniform(0.1, 0.9, (2, 3)).astype(np.float32)
    image = dark + _clouds(rng, size)[:, :, None] * (bright - dark)
    for _ in range(rng.integers(6, 15)):
        start, end = rng.integers(-size // 8, size + size // 8, (2, 2)).tolist()
        cv2.line(image, start, end, rng.uniform(0, 1, 3).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.6)
    x, y = _grid(size)
    light = 1 + strength * ((x * math.cos(angle) + y * math.sin(angle)) / size - 0.5)
    return np.asarray(image * light[:, :, None], np.float32)


def _clouds(rng: Generator, size: int) -> Image:
    """Noise of four octaves, in [0, 1]."""
    total = np.zeros((size, size), np.float32)
    for octave in range(4):
        cells = 3 * 2**octave
        noise = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) / 2**octave
    return (total / 3 + 0.5).clip(0, 1)


def _place(rng: Generator, image: Image, mask: NDArray[np.uint8], kind: int) -> None:
    """Draw one object of class `kind + 1` over image and mask."""
    size = len(mask)
    radius = rng.uniform(*_RADIUS) * size
    centre = rng.uniform(0.1 * size, 0.9 * size, 2)
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = OUTLINES[kind](rng) @ turn.T * radius + centre
    covered = np.zeros_like(mask)
    cv2.fillPoly(covered, [np.rint(points * 16).astype(np.int32)], 1, shift=4)
    inside = covered > 0
    image[inside] = _surface(rng, size, kind)[inside]
    mask[inside] = kind + 1


def _surface(rng: Generator, size: int, kind: int) -> Image:
    """The look of an object: its tint, modulated by its texture, size x size x 3."""
    hue = rng.uniform() if rng.uniform() < _ODD else (_HUE[kind] + rng.normal(0, 0.03)) % 1
    hsv = np.array([[[hue * 360, rng.uniform(0.35, 0.8), rng.uniform(0.5, 0.95)]]], np.float32)
    tint = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    texture = int(rng.integers(len(TEXTURES))) if rng.uniform() < _ODD else kind
    return np.asarray(tint * (0.55 + 0.45 * TEXTURES[texture](rng, size)[:, :, None]))


def _grid(size: int) -> tuple[Image, Image]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return x, y


def _wave(rng: Generator, size: int) -> tuple[Image, Image]:
    """Two sines across each other, in [-1, 1], turned and shifted at random, of a period of 6 to 10 pixels."""
    angle, period, (shift_u, shift_v) = rng.uniform(0, math.pi), rng.uniform(6, 10), rng.uniform(0, 2 * math.pi, 2)
    x, y = _grid(size)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return np.sin(along * 2 * math.pi / period + shift_u), np.sin(across * 2 * math.pi / period + shift_v)


def _stripes(rng: Generator, size: int) -> Image:
    return np.asarray(_wave(rng, size)[0] / 2 + 0.5)


def _checks(rng: Generator, size: int) -> Image:
    u, v = _wave(rng, size)
    return (u * v > 0).astype(np.float32)


def _dots(rng: Generator, size: int) -> Image:
    u, v = _wave(rng, size)
    return (u + v > 0.9).astype(np.float32)


def _grain(rng: Generator, size: int) -> Image:
    cells = rng.uniform(0, 1, (size // 2, size // 2)).astype(np.float32)
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)


def _rings(rng: Generator, size: int) -> Image:
    x, y = _grid(size)
    centre, period = rng.uniform(0, size, 2), rng.uniform(6, 10)
    return np.asarray(np.sin(np.hypot(x - centre[0], y - centre[1]) * 2 * math.pi / period) / 2 + 0.5, np.float32)


def _ring(corners: int, radius: float | Points = 1.0) -> Points:
    angle = np.arange(corners) * 2 * math.pi / corners
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)], 1) * np.reshape(radius, (-1, 1)))


def _ellipse(rng: Generator) -> Points:
    return _ring(40) * [1, rng.uniform(0.5, 1)]


def _triangle(rng: Generator) -> Points:
    return _ring(3) * [1, rng.uniform(0.7, 1)]


def _rectangle(rng: Generator) -> Points:
    return np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [0.85, rng.uniform(0.4, 0.85)]


def _star(rng: Generator) -> Points:
    return _ring(10, np.tile([1, rng.uniform(0.4, 0.5)], 5))


def _cross(rng: Generator) -> Points:
    w = rng.uniform(0.25, 0.35)
    arm = np.array([[1, -w], [1, w], [w, w]])  # one arm and the corner after it; the others are its turns
    return np.concatenate([arm @ np.linalg.matrix_power([[0, 1], [-1, 0]], quarter) for quarter in range(4)])


OUTLINES: tuple[Callable[[Generator], Points], ...] = (_ellipse, _triangle, _rectangle, _star, _cross)
TEXTURES: tuple[Callable[[Generator, int], Image], ...] = (_stripes, _checks, _dots, _grain, _rings)
