"""Run directories as training leaves them, with numbers that are known and names that mean harm; no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.report.pictures import Case, picture
from semiseg_cli.core.runs.log import append_metrics
from semiseg_cli.core.runs.results import finish, write_evaluation
from semiseg_cli.core.viz.tiles import Errors, Labels, Photo

HOSTILE = ("</script><script>alert(1)</script>", "[/]", "<img src=x onerror=alert(2)>", "\"' & {{ 7 * 7 }} %}", "سماء")
IOU = (71.5, 22.25, 12.0, None, 40.0)
CONFUSION = [[700, 40, 30, 0, 30], [10, 60, 5, 0, 0], [0, 30, 20, 0, 0], [0, 0, 0, 0, 0], [5, 0, 0, 0, 70]]


@pytest.fixture
def fake_run(tmp_path: Path, configured: Callable[..., Resolved]) -> Callable[..., Path]:
    """A finished run: `fake_run("one", "unimatch", miou=40.0, changes={"train.seed": 1})`, below tmp_path."""

    def make(
        name: str, method: str = "unimatch", miou: float = 36.4375, changes: dict[str, Any] | None = None,
        seconds: float = 725.0,
    ) -> Path:  # fmt: skip
        run = tmp_path / name
        run.mkdir(parents=True)
        runs.write_config(run, configured(method, {"train.steps": 200, **(changes or {})}))
        iou = dict(zip(HOSTILE, IOU, strict=True))
        for step in range(20, 201, 20):
            row: dict[str, Any] = {
                "step": step,
                "lr": 0.01,
                "epoch": step / 50,
                "loss": 40 / step,
                "images_per_second": 33.5,
            }
            if method != "supervised":
                row |= {"loss_labeled": 30 / step, "loss_strong": 10 / step, "kept": 0.5 + step / 500}
                row |= {
                    "largest_class": 0.6,
                    "kept_classes": dict(zip(HOSTILE, (0.6, 0.2, 0.1, 0.0, 0.1), strict=True)),
                }
            append_metrics(run, row)
            if step % 100 == 0:
                found = {"step": step, "miou": miou - (200 - step) / 10, "pixel_accuracy": 85.0, "iou": iou}
                append_metrics(run, found | {"best_miou": miou})
        one = {"step": 200, "miou": miou, "pixel_accuracy": 85.0, "iou": iou}
        finish(run, {"run": str(run), "method": method, "partition": "", "steps": 200, "seconds": seconds,
                          "peak_memory_bytes": 3 * 2**29, "last": one, "best": one})  # fmt: skip
        write_evaluation(run, {
            "step": 200, "classes": list(HOSTILE), "confusion": CONFUSION, "images": {HOSTILE[0]: 4.5, "b": 60.0},
            "palette": [[20, 20, 20], [230, 80, 60], [60, 110, 220], [70, 170, 80], [240, 190, 50]],
            "frequency": [80.0, 7.5, 5.0, 0.0, 7.5],
        })  # fmt: skip
        partition = {"name": "own partition, seed 0, 23 of 290", "fingerprint": "f" * 64, "protocol": ""}
        (run / "partition.json").write_text(json.dumps(partition | {"labeled": 23, "unlabeled": 1267}))
        told = {
            "semiseg": "0.1.0",
            "device": "CPU <1>",
            "command": "semiseg train -d 'a </pre> b'",
            "data": {"folder": "/d"},
        }
        (run / "environment.json").write_text(json.dumps(told))
        return run

    return make


@pytest.fixture
def worst_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports get pictures that nobody predicted, of a name that means harm."""
    from semiseg_cli.stages import report_pictures

    y, x = np.mgrid[:90, :120]
    rgb = np.stack([2 * x, 2 * y, 255 - x], 2).astype(np.uint8)
    colours = np.array([[20, 20, 20], [230, 80, 60], [60, 110, 220]], np.uint8)
    truth, label = (x > 60).astype(np.uint8), (x + y > 90).astype(np.uint8) * 2
    drawn = [picture(tile, photo=tile is not None and not isinstance(tile, Labels)) for tile in (
        Photo(rgb), Labels(truth, colours), Labels(label, colours), Errors(rgb, label != truth, truth < 9),
    )]  # fmt: skip
    cases = [Case(name, 4.5, 61.0, *drawn) for name in (HOSTILE[0], "b")]
    monkeypatch.setattr(report_pictures, "worst", lambda *_, **__: cases)
