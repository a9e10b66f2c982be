"""The commands that a message gives to be typed.

A printed command works in the working directory and the environment of the one who reads it: it is quoted, and names a
folder wherever it would else mean another one.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def data_root() -> Path:
    """The folder of the prepared datasets where --root names none."""
    return Path(os.environ.get("SEMISEG_DATA") or "data")


def runs_root() -> Path:
    """The folder of the runs where --runs-root names none."""
    return Path(os.environ.get("SEMISEG_RUNS") or "runs")


def command(*words: str | Path, root: Path | None = None, runs: Path | None = None) -> str:
    """`semiseg` and these words, to be pasted. root, runs: named as options unless they would be taken anyway.

    >>> command("check", "my photos", root=Path("elsewhere"))
    "semiseg check 'my photos' --root elsewhere"
    """
    line = ["semiseg", *map(str, words)]
    for option, folder, default in (("--root", root, data_root()), ("--runs-root", runs, runs_root())):
        if folder is not None and folder.absolute() != default.absolute():
            line += [option, str(folder)]
    return shlex.join(line)
