"""The whole road on a dataset made on the spot: prepare, train supervised and UniMatch on the same labels, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semiseg_cli.core.config.presets import gather
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.progress import Screen
from semiseg_cli.stages.report import report_or_note
from semiseg_cli.stages.train import train
from semiseg_cli.stages.visualize import compare, visualize

METHODS = ("supervised", "unimatch")
LABELED = 10


def demo(folder: Path, *, seed: int = 0, device: str = "auto", make_screen: Callable[[], Screen]) -> dict[str, Any]:
    """Run the demo below `folder` (data/ and runs/). seed: of the images, the labels and both trainings.

    Returns per method its run, seconds of training, and mIoU on the 80 validation images; the pictures it drew in
    pictures/; the report of both runs; and the seconds in all.
    """
    began = time.perf_counter()
    name = "shapes" if seed == 0 else f"shapes-{seed}"
    dataset = prepare_shapes(folder / "data", name=name, seed=seed, labeled=LABELED)
    rows = []
    for method in METHODS:
        flags = {"method.name": method, "data.name": name, "train.seed": seed}
        resolved = gather(flags, dataset=lambda _: (name, dataset.kind))
        run = train(resolved, data_root=folder / "data", runs_root=folder / "runs", device=device, screen=make_screen())
        # the last network, not the best on these very images
        found = evaluate_checkpoint(Path(run["run"]) / "last.safetensors", root=folder / "data", device=device)
        rows.append(
            {"method": method, "run": run["run"], "seconds": run["seconds"], "miou": found["miou"], "iou": found["iou"]}
        )
    return {
        "labeled": LABELED,
        "unlabeled": len(dataset.train) - LABELED,
        "images": len(dataset.val),
        "seed": seed,
        "rows": rows,
        "report": report_or_note([Path(row["run"]) for row in rows], make_screen().note, out=folder / "report.html"),
        "pictures": draw({row["method"]: Path(row["run"]) for row in rows}, folder, device),
        "gain": rows[1]["miou"] - rows[0]["miou"],
        "seconds": time.perf_counter() - began,
    }


def draw(runs: dict[str, Path], folder: Path, device: str) -> list[str]:
    """Sheets that compare the runs' last networks, and of UniMatch's pseudo-labels, below `folder`."""
    root, out = folder / "data", folder / "pictures"
    last = {method: run / "last.safetensors" for method, run in runs.items()}
    compared = compare(last, out, root=root, count=4, device=device)
    pseudo = visualize(runs["unimatch"], "pseudo", root=root, count=6, out=out, device=device)
    return [*compared["sheets"], *pseudo["sheets"]]
