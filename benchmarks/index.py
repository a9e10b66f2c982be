"""What a pool of photos costs before the first of them is used: time and memory by the number of paths. No GPU needed.

    python -m benchmarks.index [SIZES...] [--root DIR]        # 10000 100000 1000000 10000000

A dataset of SIZES unlabeled images, 100 labeled ones and 10 to validate on, all of which are one photo under many ids,
is written as text, and indexed as it is opened for the first time. Then, each in a process of its own that has done the
same with FEW images before, so that what is imported and built in any case does not count:

    train         to the first micro-batch of FixMatch (the tiny network), networks and optimiser included
    check --fast  to its end
    split         to its end: a partition of 50 images, drawn and written
    pair, pick    to the first features that are written
    worker        20,000 random records

Seconds are those of the CPU: with others at work on the machine a clock would tell of them. MB are the most that the
process has resident beyond what it had before; of the worker what it has in the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tiny import configured
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.order import pick as picked
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.training.distributed import joined
from semiseg_cli.core.training.setup import open_session
from semiseg_cli.stages.check import check
from semiseg_cli.stages.foresee import members
from semiseg_cli.stages.pair import pair
from semiseg_cli.stages.pick import pick
from semiseg_cli.stages.sizing import sized
from semiseg_cli.stages.split import make_split

SIZES, FEW, ITEMS = (10**4, 10**5, 10**6, 10**7), 1000, 20_000
SIDE, LABELED, VAL = 48, 100, 10


class Enough(Exception):
    """What was to be measured is done."""


def written(root: Path, count: int) -> str:
    """Write a dataset of so many unlabeled images, if it is not there; its name. Its index is left to be indexed."""
    name = f"pool{count}"
    folder = root / name
    if (folder / "dataset.toml").is_file():
        return name
    photo = write_image(folder / "photo.png", np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    mask = write_image(folder / "mask.png", np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 2)
    half = SIDE * SIDE // 2
    train, val = (
        [Record(f"{part}/{i:08d}", photo, mask, SIDE, SIDE, (half, half)) for i in range(many)]
        for part, many in (("train", LABELED), ("val", VAL))
    )
    write_dataset(Dataset(name, "folder", folder, ("a", "b"), ((0, 0, 0), (9, 9, 9)), train, val), {})
    with (folder / "index.tsv").open("a", encoding="utf-8") as index:
        for i in range(count):
            index.write(f"camera{i // 1000:05d}/{i:08d}\ttrain\tphoto.png\t-\t{SIDE}\t{SIDE}\t-\n")
    (folder / "index.safetensors").unlink()
    return name


@contextmanager
def stopping(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A display of progress that ends the command with the first photos that are done."""

    def advance(count: int = 1) -> None:
        if count:
            raise Enough

    yield advance


def train(root: Path, name: str) -> None:
    resolved = configured("fixmatch", {"data.name": name, "data.labeled": "50", "train.steps": 10})
    with joined("cpu") as world:
        config = sized(resolved, load_dataset(root, name), False).config
        session = open_session(config, *members(config, root), world, lambda line: None)
        next(session.batches(session.plan))


def worker(root: Path, name: str) -> None:
    records = load_dataset(root, name).pool
    assert sum(records[picked(0, "unlabeled", len(records), i)].height for i in range(ITEMS)) == ITEMS * SIDE


COMMANDS: dict[str, Callable[[Path, str], Any]] = {
    "train": train,
    "check --fast": lambda root, name: check(root, name, labeled="50", fast=True),
    "split": lambda root, name: make_split(root, name, "50"),
    "pair": lambda root, name: pair(root, name, "50", encoder="tiny", device="cpu", progress=stopping),
    "pick": lambda root, name: pick(name, 5, root=root, encoder="tiny", device="cpu", progress=stopping),
    "worker": worker,
}


def memory(kind: str) -> float:
    """MB of this process, by a name in /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) / 1024


def measured(root: Path, name: str, command: str, result: Any) -> None:
    """In a new process: seconds and MB of a command, after it was done with the smallest pool."""
    for pool in (f"pool{FEW}", name):
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the most resident memory is counted from here on
        began = time.process_time()
        with suppress(Enough):
            COMMANDS[command](root, pool)
        seconds = time.process_time() - began
    most = memory("VmRSS" if command == "worker" else "VmHWM")
    result.put({"seconds": round(seconds, 3), "mb": round(most - before, 1)})


def opened(root: Path, name: str, result: Any) -> None:
    before, began = memory("VmRSS"), time.process_time()
    load_dataset(root, name)
    result.put({"seconds": round(time.process_time() - began, 1), "mb": round(memory("VmHWM") - before, 1)})


def alone(work: Callable[..., None], *arguments: Any) -> dict[str, float]:
    """What `work` puts into its last argument, in a process of its own."""
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    process = context.Process(target=work, args=(*arguments, result))
    process.start()
    found: dict[str, float] = result.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--root", type=Path, help="where the datasets are kept; else they are gone in the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or Path(temporary)
        load_dataset(root, written(root, FEW))
        for count in options.sizes:
            name = written(root, count)
            rows = {} if (root / name / "index.safetensors").is_file() else {"indexed once": alone(opened, root, name)}
            rows |= {command: alone(measured, root, name, command) for command in COMMANDS}
            print(json.dumps({"paths": count, **rows}), flush=True)


if __name__ == "__main__":
    main()
