"""`semiseg_cli.metrics`: the lines of docs/python.md send a run's log to wandb, and MLflow takes the same numbers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from semiseg_cli import metrics

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
ROWS = [
    {"step": 1, "lr": 0.01, "loss": 2.0, "skipped": 0, "kept_classes": {"sky": 0.25}},
    {"step": 2, "miou": 40.0, "iou": {"sky": 50.0, "pole": None}, "best_miou": 40.0},
]
NUMBERS = [
    (1, {"lr": 0.01, "loss": 2.0, "skipped": 0, "kept_classes/sky": 0.25}),
    (2, {"miou": 40.0, "iou/sky": 50.0, "best_miou": 40.0}),
]


def test_the_lines_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert list(metrics(tmp_path)) == NUMBERS
    sent = []
    log = SimpleNamespace(log=lambda numbers, step: sent.append((step, numbers)))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda project: log))
    (code,) = re.findall(r"```python\n(import wandb.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code.replace("runs/mine-all-fixmatch-mobilenet_v2-s0", str(tmp_path)), {})
    assert sent == NUMBERS
    assert "`mlflow.log_metrics(numbers, step=step)`" in PAGE.read_text()  # (metrics: dict[str, float], step: int)
