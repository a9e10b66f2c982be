"""One command for a lent GPU: its tests, the step of every method, the public UniMatch's beside it, short trainings.

`benchmarks/gpu.sh` starts it; `benchmarks/README.md` says what the document holds. The document is written anew after
every part, so that a machine that is taken away leaves what it had measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts import Found, Part, work_through
from benchmarks.table import table

SCHEMA = 1
NEEDED = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "cv2": "opencv-python-headless",
    "PIL": "pillow", "scipy": "scipy", "safetensors": "safetensors", "typer": "typer", "rich": "rich",
}  # fmt: skip
LAST = 10  # seconds that are kept for the table and for leaving
NO_DEVICE = 4  # exit code, as semiseg's


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well; 1: a part failed; 4: no GPU, or a package is missing."""
    options = parse(arguments)
    began = time.monotonic()
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        return refuse(f"missing here: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        return refuse("torch sees no CUDA device", "nvidia-smi; or, to see that all of it runs: --device cpu --tiny")
    machine = describe(options.device)
    out = options.out or default_out(machine)
    document: Found = {"schema": SCHEMA, "command": " ".join(sys.argv[1:]), "machine": machine, "parts": []}

    def done(outcome: Found) -> None:
        document["parts"].append(outcome)
        write(out, document)
        said = f"{outcome['seconds']:.1f} s" if outcome["state"] == "done" else outcome["why"]
        print(f"{outcome['name']}: {outcome['state']}, {said}", file=sys.stderr, flush=True)

    from benchmarks.measurements import all_parts  # imports torch and the package

    write(out, document)
    with tempfile.TemporaryDirectory(prefix="semiseg-gpu-") as folder:
        parts = chosen(all_parts(options, Path(folder)), options.only)
        work_through(parts, 60 * options.minutes - LAST - (time.monotonic() - began), done)
    print(table(document))
    print(f"written: {out}", file=sys.stderr)
    return int(any(part["state"] == "failed" for part in document["parts"]))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description="Measure semiseg on a CUDA GPU.")
    parser.add_argument("--minutes", type=float, default=10, help="for everything (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file; benchmarks/results/DEVICE-DATE.json, or in $OUT if set")
    parser.add_argument("--only", action="append", metavar="WORD", help="the part called so, or whose name has it")
    parser.add_argument("--unimatch", type=Path, metavar="DIR", help="checkout of LiheYoung/UniMatch to compare with")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of prepared datasets, for short trainings")
    parser.add_argument("--dataset", default="", help="which of them, where there are several")
    parser.add_argument("--labeled", default="1/8", help="labeled images of the trainings (%(default)s)")
    parser.add_argument("--weights", default="none", help="encoder weights of the trainings (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed in each row (%(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: to see that it runs, not how fast")
    return parser.parse_args(arguments)


def chosen(parts: list[Part], only: list[str] | None) -> list[Part]:
    """The parts that are called so; and for a word that is no part's name, those whose names have it."""
    names = {part.name for part in parts}
    return [part for part in parts if not only or any(_meant(part.name, word, names) for word in only)]


def _meant(name: str, word: str, names: set[str]) -> bool:
    return word == name or (word not in names and word in name)


def refuse(what: str, fix: str) -> int:
    print(f"error: {what}\n  try: {fix}", file=sys.stderr)
    return NO_DEVICE


def describe(device: str) -> dict[str, Any]:
    """Where and on what it ran."""
    import torch

    from semiseg_cli import __version__
    from semiseg_cli.core.runs.environment import commit

    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"), "device": platform.processor() or platform.machine(),
        "semiseg": __version__, "commit": commit(), "python": platform.python_version(), "torch": torch.__version__,
        "cores": os.cpu_count(),
    }  # fmt: skip
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        cuda = {"device": gpu.name, "memory_bytes": gpu.total_memory, "multiprocessors": gpu.multi_processor_count}
        found |= cuda | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def default_out(machine: dict[str, Any]) -> Path:
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    device = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower()).strip("-")
    return folder / f"{device}-{machine['date'][:16].replace(':', '')}.json"


def write(out: Path, document: Found) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = out.with_name(f".{out.name}")
    whole.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(whole, out)


if __name__ == "__main__":
    sys.exit(main())
