"""The scripts in `completions/`: `python -m semiseg_cli.cli.completions` writes them again.

They ask `semiseg` itself, so that methods, datasets and runs are those that are there when the key is pressed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

FILES = {"bash": "semiseg.bash", "zsh": "_semiseg", "fish": "semiseg.fish"}


def scripts() -> dict[str, str]:
    """File name to content, as Typer makes them."""
    return {file: f"{_script(shell)}\n" for shell, file in FILES.items()}


def _script(shell: str) -> str:
    environment = {**os.environ, "_SEMISEG_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "semiseg_cli"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the completion scripts of every shell.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("completions"))
    folder = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    for name, text in scripts().items():
        (folder / name).write_text(text, encoding="utf-8")
