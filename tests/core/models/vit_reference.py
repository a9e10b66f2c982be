"""DINOv2 in plain formulas, float64 and NumPy: what `backbones/vit.py` is compared with. Nothing of it uses torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import erf

Array = np.ndarray
PATCH_GRID = 37  # of Meta's files


def image(height: int, width: int) -> Array:
    """A picture of waves, (3, height, width), in about [-2, 2]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    return np.stack([np.sin(0.11 * (c + 1) * rows) + np.cos(0.07 * (c + 2) * columns + c) for c in range(3)])


def cubic(x: float, a: float) -> float:
    """Keys' kernel."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def scaled_line(own: int, side: int, offset: float) -> Array:
    """(side, own): Meta's rule for one axis. Four neighbours, a = -0.75; the border's value goes on beyond it."""
    scale = (side + offset) / own
    weights = np.zeros((side, own))
    for place in range(side):
        source = (place + 0.5) / scale - 0.5
        for neighbour in range(math.floor(source) - 1, math.floor(source) + 3):
            weights[place, min(max(neighbour, 0), own - 1)] += cubic(source - neighbour, -0.75)
    return weights


def antialiased_line(own: int, side: int) -> Array:
    """(side, own): by size, a = -0.5, a kernel that widens where it shrinks, cut and normalised at the border."""
    shrink = own / side
    wide = max(shrink, 1.0)
    weights = np.zeros((side, own))
    for place in range(side):
        centre = (place + 0.5) * shrink
        for neighbour in range(own):
            weights[place, neighbour] = cubic((neighbour + 0.5 - centre) / wide, -0.5)
    return weights / weights.sum(1, keepdims=True)


def table_at(table_hwD: Array, grid: tuple[int, int], offset: float | None) -> Array:
    """The position table of patches at another grid."""
    if table_hwD.shape[:2] == grid:
        return table_hwD
    lines = [
        antialiased_line(own, side) if offset is None else scaled_line(own, side, offset)
        for own, side in zip(table_hwD.shape[:2], grid, strict=True)
    ]
    return np.einsum("hi,ijD,wj->hwD", lines[0], table_hwD, lines[1])


def norm(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x_ND: Array, weights: Mapping[str, Array], name: str, heads: int) -> Array:
    width = x_ND.shape[1] // heads
    q, k, v = np.split(linear(x_ND, weights, f"{name}.qkv"), 3, axis=1)
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        out.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
    return linear(np.concatenate(out, 1), weights, f"{name}.proj")


def maps(weights: Mapping[str, Array], image_3HW: Array, *, patch: int, heads: int, taps: Sequence[int]) -> list[Array]:
    """Normalised token maps (D, h, w) after some blocks of a network whose weights have Meta's names.

    With `register_tokens` they stand behind the class token, and the table is resized by size with antialiasing.
    """
    grid = (image_3HW.shape[1] // patch, image_3HW.shape[2] // patch)
    kernel = weights["patch_embed.proj.weight"]
    patches = image_3HW.reshape(3, grid[0], patch, grid[1], patch).transpose(1, 3, 0, 2, 4).reshape(math.prod(grid), -1)
    x = patches @ kernel.reshape(len(kernel), -1).T + weights["patch_embed.proj.bias"]
    table, own = weights["pos_embed"][0], math.isqrt(weights["pos_embed"].shape[1] - 1)
    registers = weights["register_tokens"][0] if "register_tokens" in weights else np.zeros((0, x.shape[1]))
    offset = None if len(registers) else 0.1
    x = x + table_at(table[1:].reshape(own, own, -1), grid, offset).reshape(math.prod(grid), -1)
    x = np.concatenate([weights["cls_token"][0] + table[:1], registers, x])
    found = []
    for block in range(max(taps) + 1):
        name = f"blocks.{block}"
        attended = attention(norm(x, weights, f"{name}.norm1"), weights, f"{name}.attn", heads)
        x = x + weights[f"{name}.ls1.gamma"] * attended
        hidden = linear(norm(x, weights, f"{name}.norm2"), weights, f"{name}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        x = x + weights[f"{name}.ls2.gamma"] * linear(hidden, weights, f"{name}.mlp.fc2")
        if block in taps:
            found.append(norm(x, weights, "norm")[1 + len(registers) :].T.reshape(-1, *grid))
    return found
