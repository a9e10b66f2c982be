"""Runs that are killed at moments drawn at random and resumed, against runs that nobody disturbed: bit by bit.

    python -m benchmarks.kills [--kills 12] [--methods unimatch ...] [--seed 0] [--out FILE]

Every method trains the tiny network for 24 steps, saves every third and evaluates every fourth, with log lines every
fifth, so that a resumed run begins between two of them. Each kill is drawn: SIGKILL or SIGTERM, after a random time, in
the middle of a save (before or after a file or its folder is settled on the disk) or at an image of an evaluation. A
run that ends before its kill is compared and another one takes the kills that are left. Compared with the undisturbed
run: all tensors of the last and the best network and of the state, what these files say of themselves, the log without
its images per second, and the result without its seconds; and nothing of a killed writer may be left behind.

Attempts are processes, forked from one that has PyTorch imported, so that a kill costs seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.tiny import configured, prepared
from semiseg_cli.core import files
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.files import STATE
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.training.checkpoint import read
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

PLAN = {"train.steps": 24, "train.save_every": 3, "train.eval_every": 4, "train.log_every": 5}
INTERRUPTED = 130


@dataclass(frozen=True)
class Kill:
    """kind: time (seconds `at` after the start), save (the `at`-th settling) or evaluation (the `at`-th image)."""

    kind: str
    number: int
    at: float


def drawn(rng: random.Random, seconds: float) -> Kill:
    """seconds: what an undisturbed run takes."""
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    kind = rng.choice(["time", "time", "save", "evaluation"])
    return Kill(kind, number, rng.uniform(0, 0.7 * seconds) if kind == "time" else rng.randrange(12))


class Aimed(Silent):
    """A screen that sends a kill's signal to its own process at an image of an evaluation."""

    def __init__(self, kill: Kill | None) -> None:
        self.kill, self.images = kill, 0

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        def advance(count: int = 1) -> None:
            if self.kill and self.kill.kind == "evaluation" and self.images == self.kill.at:
                os.kill(os.getpid(), self.kill.number)
            self.images += 1

        yield advance


def aim(kill: Kill) -> None:
    """Have this process get the signal in time, or in a save."""
    if kill.kind == "time":
        timer = threading.Timer(kill.at, os.kill, (os.getpid(), kill.number))
        timer.daemon = True
        timer.start()
    elif kill.kind == "save":
        settle, calls = files.settle, list[Path]()

        def settled(path: Path) -> None:
            if len(calls) == kill.at:
                os.kill(os.getpid(), kill.number)
            calls.append(path)
            settle(path)

        files.settle = settled


def attempt(method: str, run: Path, data: Path, kill: Kill | None) -> int:
    """Begin the run, or go on with it, in a process of its own; its exit code, negative: killed by that signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if kill:
            aim(kill)
        if (run / STATE).is_file():
            resume(run, data_root=data, device="cpu", screen=Aimed(kill))
        else:  # killed before it saved anything: the same command starts it anew
            shutil.rmtree(run, ignore_errors=True)
            train(
                configured(method, PLAN), data_root=data, runs_root=run.parent, out=run, device="cpu",
                screen=Aimed(kill),
            )  # fmt: skip
        os._exit(0)
    except Interrupted:
        os._exit(INTERRUPTED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def left(run: Path) -> dict[str, Any]:
    """All that a finished run leaves which does not depend on the clock, as plain values; tensors as their bytes."""
    networks = {name: run / name for name in ("last.safetensors", "best.safetensors", str(STATE))}
    tensors = {f"{name} {key}": value for name, file in networks.items() for key, value in load_file(file).items()}
    said = {name: read(file)[1] for name, file in networks.items()}
    said[str(STATE)]["seconds"] = said[str(STATE)]["since"] = None
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {
        "weights": {name: (str(x.dtype), x.shape, x.view(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"")
                    for name, x in tensors.items()},
        "said": said,
        "log": [json.dumps(row | {"images_per_second": None}) for row in read_metrics(run)],
        "result": {name: result[name] for name in ("steps", "last", "best", "method", "partition")},
        "left behind": sorted(path.name for path in run.rglob(".*")),
    }  # fmt: skip


def tortured(method: str, kills: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """So many kills of runs of one method, and in what their results differ from those of an undisturbed one."""
    rng, data, whole = random.Random(f"{method} {seed}"), folder / "data", folder / f"{method}-whole"
    began = time.monotonic()
    assert attempt(method, whole, data, None) == 0
    seconds, undisturbed = time.monotonic() - began, left(whole)
    done, differ, finished = list[dict[str, Any]](), set[str](), 0
    while len(done) < kills:
        run, ended = folder / f"{method}-{finished}", False
        while not ended:
            kill = drawn(rng, seconds) if len(done) < kills else None
            code = attempt(method, run, data, kill)
            if kill and code in (-signal.SIGKILL, INTERRUPTED):
                done.append(asdict(kill))
            elif code:
                differ.add(f"exit code {code} after {kill}")
            ended = (run / "result.json").is_file() or (code not in (0, -signal.SIGKILL, INTERRUPTED))
        finished += 1
        if (run / "result.json").is_file():
            found = left(run)
            differ |= {part for part in undisturbed if found[part] != undisturbed[part]}
        shutil.rmtree(run)
    by_kind = {kind: sum(kill["kind"] == kind for kill in done) for kind in ("time", "save", "evaluation")}
    return {"method": method, "kills": len(done), "killed_by_kind": by_kind, "runs": finished, "differ": sorted(differ),
            "tensors": len(undisturbed["weights"]), "rows": len(undisturbed["log"]),
            "seconds": round(time.monotonic() - began)}  # fmt: skip


def line(found: dict[str, Any]) -> str:
    words = {"time": "at a random time", "save": "in a save", "evaluation": "in an evaluation"}
    kinds = ", ".join(f"{count} {words[kind]}" for kind, count in found["killed_by_kind"].items())
    same = f"differ in {', '.join(found['differ'])}" if found["differ"] else "equal to the bit"
    return (
        f"{found['method']}: {found['kills']} kills ({kinds}) of {found['runs']} runs, {found['tensors']} tensors and "
        f"{found['rows']} lines of the log {same}, {found['seconds']} s"
    )


def main() -> int:
    """0: every run is as if nobody had disturbed it; 1: one is not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=12, help="for each method (%(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="all of them if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file with all numbers")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="semiseg-kills-") as folder:
        prepared(Path(folder) / "data")
        for method in asked.methods:
            results.append(tortured(method, asked.kills, Path(folder), asked.seed))
            print(line(results[-1]), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(any(found["differ"] for found in results))


if __name__ == "__main__":
    raise SystemExit(main())
