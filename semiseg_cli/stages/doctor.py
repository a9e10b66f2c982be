"""What this machine and this installation are, and what is wrong with them. Works where the libraries do not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from semiseg_cli import __version__
from semiseg_cli.core.data.cores import cores
from semiseg_cli.core.models.published import cache_folder
from semiseg_cli.core.runs.environment import commit

PACKAGES = (
    "torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "scipy", "safetensors", "typer", "rich",
    "timm", "huggingface_hub", "tensorboard",
)  # fmt: skip
OPTIONAL = ("tensorboard",)
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
FITNESS_SECONDS = 180
LITTLE_DISK = 5e9  # bytes: less than VOC and a few runs take

Problem = dict[str, str]


def examine(data_root: Path, runs_root: Path) -> dict[str, Any]:
    """What `semiseg doctor` reports, as plain values. `problems` says what is wrong and what to try."""
    found: dict[str, Any] = {
        "semiseg": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "environment": {name: value for name, value in os.environ.items() if name.startswith("SEMISEG_")},
        "libraries": _fitness(),
        "cpu": {"name": _cpu(), "cores": cores(), "bf16": "avx512_bf16" in _cpuinfo()},
        "opencv": _guarded(_opencv),
        "decode": _guarded(_decode),
        "disk": {name: _disk(path) for name, path in _folders(data_root, runs_root).items()},
        "data": _guarded(lambda: _data(data_root)),
        "weights": sorted(path.name for path in cache_folder().glob("*.safetensors")),
    }
    return found | {"problems": _problems(found)}


def _problems(found: dict[str, Any]) -> list[Problem]:
    libraries, packages = found["libraries"], found["packages"]
    problems = list[Problem]()
    for name in [name for name, version in packages.items() if version is None and name not in OPTIONAL]:
        problems.append({"what": f"{name} is not installed", "fix": f"pip install {name}"})
    reinstall = "pip install --upgrade --force-reinstall torch torchvision, both in one command"
    if not libraries["fit"] and packages["torch"] and packages["torchvision"]:
        pair = f"torch {packages['torch']} and torchvision {packages['torchvision']}"
        why = libraries["error"] or "a call that needs both gave a wrong result"
        problems.append({"what": f"{pair} do not work together: {why}", "fix": reinstall})
    if libraries["fit"] and not libraries["devices"] and shutil.which("nvidia-smi"):
        build = f"is built for CUDA {libraries['cuda']}" if libraries["cuda"] else "is a CPU build"
        what = f"there is an NVIDIA driver, but torch finds no device (it {build})"
        problems.append({"what": what, "fix": f"nvidia-smi, then {reinstall}"})
    for device in libraries["devices"]:
        if not device["works"]:
            problems.append({"what": f"{device['name']} does not compute: {device['error']}", "fix": "nvidia-smi"})
    if "error" in found["opencv"]:
        fix = "pip uninstall opencv-python; pip install --force-reinstall opencv-python-headless"
        problems.append({"what": f"OpenCV does not work: {found['opencv']['error']}", "fix": fix})
    elif len(found["opencv"]["wheels"]) > 1:
        several = " and ".join(found["opencv"]["wheels"])
        fix = f"pip uninstall {' '.join(found['opencv']['wheels'])}; pip install opencv-python-headless"
        problems.append({"what": f"{several} share their files, and one overwrites the other", "fix": fix})
    for name, disk in found["disk"].items():
        if not disk["writable"]:
            problems.append({"what": f"{disk['path']} ({name}) cannot be written", "fix": "choose another folder"})
        elif disk["free_bytes"] < LITTLE_DISK:
            gigabytes = disk["free_bytes"] / 1e9
            problems.append({"what": f"{gigabytes:.1f} GB free in {disk['path']} ({name})", "fix": "free some space"})
    if "error" in found["data"]:
        problems.append({"what": f"prepared data: {found['data']['error']}", "fix": "semiseg check NAME"})
    return problems


def _fitness() -> dict[str, Any]:
    """`stages.fitness` in a process of its own."""
    nothing: dict[str, Any] = {
        "torch": None, "torchvision": None, "fit": False, "cuda": None, "threads": 0, "devices": []
    }  # fmt: skip
    command = [sys.executable, "-m", "semiseg_cli.stages.fitness"]
    place = str(Path(__file__).parents[2])
    path = os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FITNESS_SECONDS, env={**os.environ, "PYTHONPATH": path}
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return nothing | {"error": f"importing them ended the process with code {done.returncode}: {last}"}
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return nothing | answer
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return nothing | {"error": f"{type(error).__name__}: {error}"}


def _guarded(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `look` finds, or the error that kept it from looking."""
    try:
        return look()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _opencv() -> dict[str, Any]:
    import cv2

    return {"version": cv2.__version__, "wheels": [name for name in OPENCV if _version(name)]}


def _decode(repeats: int = 40) -> dict[str, Any]:
    """Milliseconds to decode a photo of VOC's size on one core: the fastest of some runs."""
    import cv2
    import numpy as np

    from semiseg_cli.core.data.decode import decode_image

    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    photo = cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        cv2.imwrite(str(path), photo)
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            decode_image(path)
            times.append(time.perf_counter() - began)
    return {"image": "JPEG 500x375", "ms": 1000 * min(times), "per_second": 1 / min(times)}


def _data(root: Path) -> dict[str, Any]:
    """Images of every prepared dataset, and the names of the partitions at hand."""
    from semiseg_cli.core.data.index import manifest, prepared

    return {
        name: {
            **manifest(root / name)["counts"],
            "splits": sorted(
                file.parent.relative_to(root / name / "splits").as_posix()
                for file in (root / name / "splits").rglob("labeled.txt")
            ),
        }
        for name in prepared(root)
    }


def _folders(data_root: Path, runs_root: Path) -> dict[str, Path]:
    return {"data": data_root, "runs": runs_root, "cache": cache_folder().parent}


def _disk(path: Path) -> dict[str, Any]:
    """Free bytes where a folder is or would be made."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return {"path": str(path), "exists": path.exists(), "free_bytes": free, "writable": os.access(place, os.W_OK)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
