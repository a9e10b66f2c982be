"""Files written whole or not at all, what is to be done where they cannot be, and values as TOML writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError

STATE = Path("resume") / "state.safetensors"  # of a run directory
NETWORKS = ("best.safetensors", "last.safetensors")  # of a run directory, the one that is meant first


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step: after a crash or a full disk a reader finds the old text or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes. A file that holds them already is left alone."""
    if path.is_file() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def network_of(path: Path) -> Path:
    """`path` itself, or the best network, else the last one, of a run directory. CheckpointError where it has none."""
    if not path.is_dir():
        return path
    for name in NETWORKS:
        if (path / name).is_file():
            return path / name
    why = f"there is neither {' nor '.join(NETWORKS)} in it"
    fix = f"{resuming(path)}, or name a .safetensors file"
    raise CheckpointError(f"{path} holds no checkpoint", why=why, fix=fix)


def resuming(run: Path, root: Path | None = None) -> str:
    """The command that goes on with a run. root: the data root; None: it is where the run remembers it."""
    return command("train", "--resume", run, root=root)


def unwritable(path: Path, error: Exception, kept: str = "") -> CheckpointError:
    """The error of a run's file that a full or read-only disk did not take. It says how the run goes on.

    kept: what to say of the state that it goes on from.
    """
    # os.path's isfile never raises, unlike Path's
    run = next((run for run in (path.parent, path.parent.parent) if os.path.isfile(run / STATE)), None)
    then = f": {resuming(run)}{kept}" if run else " start a new run"
    fix = f"free some disk space, or make it writable, then{then}"
    return CheckpointError(f"cannot write {path}", why=str(error), fix=fix)


def toml_value(value: Any) -> str:
    """A string, number, boolean or sequence of these as TOML."""
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    assert isinstance(value, Iterable), f"no TOML for {type(value)}"
    return f"[{', '.join(toml_value(item) for item in value)}]"
