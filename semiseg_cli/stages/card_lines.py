"""The lines on a card that bring a photo to labels: for a graph with NumPy and Pillow alone, just as `predict` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from semiseg_cli.core.inference.predictor import LARGE_PIXELS, LARGE_WINDOW
from semiseg_cli.core.ops.sizes import fit_side

if TYPE_CHECKING:
    from semiseg_cli.stages.model_card import Seen

LOAD = """from semiseg_cli import load
net = load(FILE)
labels = net("photo.jpg")"""

OPENED = {
    ".onnx": """import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(FILE)

def network(image):  # uint8 (batch, height, width, 3)
    return session.run(["labels", "probabilities"], {"image": image})
""",
    ".pt2": """import numpy as np
import torch
from PIL import Image, ImageOps

program = torch.export.load(FILE).module(check_guards=False)  # else for the sizes of one branch

@torch.no_grad()
def network(image):  # uint8 (batch, height, width, 3)
    return [output.numpy() for output in program(torch.from_numpy(image))]
""",
}

PHOTO = """
photo = np.array(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
height, width = photo.shape[:2]
"""

REDUCED = """
def means(rows, count):  # of equal parts, whose borders may cut through a row
    borders = np.arange(count + 1) * (len(rows) / count)
    whole = np.minimum(borders.astype(int), len(rows) - 1)
    sums = np.cumsum(np.concatenate([0 * rows[:1], rows]), axis=0, dtype=float)
    return np.diff(sums[whole] + (borders - whole)[:, None, None] * rows[whole], axis=0) * (count / len(rows))

scale = min(1, SIDE / max(height, width))
h, w = max(1, round(height * scale)), max(1, round(width * scale))
seen = np.rint(means(means(photo, h).swapaxes(0, 1), w).swapaxes(0, 1)).astype(np.uint8)
"""

AS_IT_IS = """seen, h, w = photo, height, width
"""

WHOLE = """labels, probabilities = (output[0] for output in network(seen[None]))
"""

WINDOWS = """
def starts(length):  # of windows that end at the border
    beyond = max(length - side, 0)
    return [min(start, beyond) for start in range(0, beyond + step, step)]

side, step = WINDOW
total, cover = np.zeros((CLASSES, h, w), np.float32), np.zeros((h, w), np.float32)
for top in starts(h):
    for left in starts(w):
        part = np.s_[top:top + side, left:left + side]
        total[(slice(None), *part)] += network(seen[part][None])[1][0]
        cover[part] += 1
probabilities = total / cover
"""

LIKELIEST = """labels = probabilities.argmax(0).astype(np.uint8)
"""

ENLARGED = """
labels, most = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
for index, plane in enumerate(probabilities):  # probabilities are enlarged, and not labels
    plane = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
    labels[plane > most], most = index, np.maximum(plane, most)
"""


def lines(file: str, classes: int, seen: Seen) -> str:
    """Python from "photo.jpg" to `labels`, uint8 (height, width), for an exported file of that name."""
    suffix = "." + file.rpartition(".")[2]
    text = LOAD
    if suffix in OPENED:
        large = fit_side(LARGE_WINDOW, seen.multiple)
        sides = seen.window or f"{large} if h * w > {LARGE_PIXELS} else max(h, w)"
        windows = WINDOWS.replace("WINDOW", f"{sides}, {seen.step}").replace("CLASSES", str(classes))
        text = OPENED[suffix] + PHOTO
        text += REDUCED.replace("SIDE", str(seen.long_side)) if seen.long_side else AS_IT_IS
        text += windows if seen.step else WHOLE
        text += ENLARGED if seen.long_side else LIKELIEST if seen.step else ""
    return text.replace("FILE", json.dumps(file)).rstrip()
