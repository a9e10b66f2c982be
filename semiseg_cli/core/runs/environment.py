"""environment.json: what a run was made with."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from semiseg_cli import __version__
from semiseg_cli.core.runs.disk import write

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "safetensors")


def write_environment(run: Path, device: str, files: Mapping[str, Any] | None = None, processes: int = 1) -> None:
    """What somebody needs to know to repeat the run. `device` is its name in words.

    files: those that its first weights are from, with their digests.
    """
    from importlib import metadata  # 20 ms, which `semiseg --help` need not pay

    environment = {
        "semiseg": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": device,
        "processes": processes,
        "files": dict(files or {}),
        "commit": commit(),
        "command": shlex.join(sys.argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    write(run / "environment.json", json.dumps(environment, indent=2) + "\n")


def commit() -> str | None:
    """The commit of the checkout this package runs from; None if it is installed, or git is not there."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
