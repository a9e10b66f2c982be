"""Runs that take seconds on a CPU: the tiny network on a few drawn images of 48 pixels, with every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg_cli.core.config.layers import Resolved, resolve
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.settings import hints
from semiseg_cli.stages.prepare import prepare_shapes

QUICK = {
    "data.name": "shapes", "model.backbone": "tiny", "model.weights": "none", "train.batch": 2, "train.crop": 33,
    "train.lr": 0.01, "train.head_lr_multiplier": 1.0, "train.workers": 0, "train.threads": 1, "eval.window": "none",
    "eval.batch": 1,
}  # fmt: skip
# So that something is kept, matched and remembered within a few steps of a network that knows nothing.
EAGER = {"tau": 0.3, "phi": 0.3, "match_after": 4, "memory_size": 16, "warmup": 0.1}


def prepared(root: Path) -> None:
    prepare_shapes(root, labeled=6, unlabeled=8, val=3, size=48)


def configured(method: str, changes: dict[str, Any]) -> Resolved:
    """The configuration of a run. changes: settings by name."""
    known = hints(load_method(method).Settings)
    eager = {f"method.{name}": value for name, value in EAGER.items() if name in known}
    return resolve([("benchmark", QUICK | eager | {"method.name": method} | changes)])
