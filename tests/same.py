"""For tests: what two runs must have in common to be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from semiseg_cli.core.runs.log import read_metrics


def timeless(run: Path) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(run)]


def same_tensors(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())
