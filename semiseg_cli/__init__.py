"""semiseg: semi-supervised semantic segmentation from the command line.

>>> from semiseg_cli import load
>>> net = load("model.safetensors")
>>> labels = net("photo.jpg")  # or uint8 (height, width, 3) -> class of every pixel
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from semiseg_cli.core.inference.deploy import Deployed

__version__ = "0.1.0"


def load(path: str | Path, device: str | torch.device = "cpu") -> Deployed:
    """A checkpoint or exported network, ready to use: `load(path)(image)` gives the class of every pixel.

    See `core.inference.deploy`, which is imported on the first call. Raises CheckpointError for any other file.
    """
    from semiseg_cli.core.inference import deploy

    return deploy.load(path, device)


def metrics(run: str | Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The log of a run: for every line its step and its numbers by name, those by class as `iou/road`."""
    from pathlib import Path

    from semiseg_cli.core.runs.log import numbers, read_metrics

    for row in read_metrics(Path(run)):
        found = dict(numbers(row))
        yield int(found.pop("step")), found
