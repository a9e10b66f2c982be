"""Whether a long run grows: memory, open files and the files of its directory over many steps of a tiny network.

    python -m benchmarks.long_run [--steps 20000] [--methods stpg s4mim] [--out FILE]

STPG remembers features of every class, S4MIM prototypes. A step is of one labeled and one unlabeled image of 32 pixels,
so that a day's worth of steps takes minutes; it logs every 100 steps, saves every 500 and evaluates every 1,000. What
is there at a tenth of the run is compared with what is there at its end. Memory is the process's resident set, the
least of the looks since the last number; a log line adds its bytes to metrics.jsonl (and to TensorBoard's file where it
is installed), which is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tiny import configured, prepared
from semiseg_cli.core.machine import resident_memory
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import train

LOGS = ("metrics.jsonl", "tensorboard")  # grow with every line


class Observer(Silent):
    """A screen that looks at the process and the run's directory as steps pass. every: steps between numbers."""

    def __init__(self, run: Path, every: int) -> None:
        self.run, self.every = run, every
        self.rows, self.least = list[dict[str, int]](), 0

    def advance(self, step: int) -> None:
        if step % max(self.every // 20, 1) == 0:
            now = resident_memory()
            self.least = min(self.least, now) if self.least else now
        if step % self.every == 0:
            files = [path for path in self.run.rglob("*") if path.is_file()]
            kept = [path for path in files if path.relative_to(self.run).parts[0] not in LOGS]
            self.rows.append(
                {
                    "step": step, "memory": self.least, "open": len(os.listdir("/proc/self/fd")), "files": len(files),
                    "bytes": sum(path.stat().st_size for path in kept),
                    "log_bytes": sum(path.stat().st_size for path in set(files) - set(kept)),
                }
            )  # fmt: skip
            self.least = 0


def watched(method: str, steps: int, folder: Path) -> dict[str, Any]:
    """A run of so many steps, and what was there at a tenth of it and at its end."""
    settings = {
        "train.steps": steps, "train.batch": 1, "train.crop": 32, "train.log_every": max(steps // 200, 1),
        "train.save_every": max(steps // 40, 1), "train.eval_every": max(steps // 20, 1),
    }  # fmt: skip
    run = folder / method
    observer, began = Observer(run, max(steps // 20, 1)), time.monotonic()
    train(configured(method, settings), data_root=folder / "data", runs_root=folder, out=run, device="cpu",
          screen=observer)  # fmt: skip
    tenth, end = observer.rows[1], observer.rows[-1]
    return {"method": method, "steps": steps, "seconds": round(time.monotonic() - began), "tenth": tenth, "end": end,
            "rows": observer.rows}  # fmt: skip


def line(found: dict[str, Any]) -> str:
    tenth, end = found["tenth"], found["end"]
    return (
        f"{found['method']}: {found['steps']:,} steps in {found['seconds']} s; at step {tenth['step']:,} and its end: "
        f"{tenth['memory'] / 1e6:.1f} and {end['memory'] / 1e6:.1f} MB of memory, {tenth['open']} and {end['open']} "
        f"open files, {tenth['files']} and {end['files']} files of {tenth['bytes']:,} and {end['bytes']:,} bytes "
        f"without the log, which has {end['log_bytes']:,}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--methods", nargs="+", default=["stpg", "s4mim"])
    parser.add_argument("--out", type=Path, help="a JSON file with all numbers")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="semiseg-long-") as folder:
        prepared(Path(folder) / "data")
        for method in asked.methods:
            results.append(watched(method, asked.steps, Path(folder)))
            print(line(results[-1]), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
