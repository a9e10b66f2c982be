"""Files written whole or not at all, what is to be done where they cannot be, and values as TOML writes them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError

STATE = Path("resume") / "state.safetensors"  # of a run directory
NETWORKS = ("best.safetensors", "last.safetensors")  # of a run directory, the one that is meant first


@contextmanager
def whole(path: Path, *, settled: bool = False) -> Iterator[Path]:
    """A new file beside `path` that becomes it in one step if all goes well; else it vanishes.

    A reader finds the old file or the new one, also after a crash. settled: so it is after a loss of power as well,
    and what was written before this ended is there: it costs some milliseconds.
    """
    new = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")  # short enough where `path` itself is not
    handle = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = os.fstat(handle).st_mode & 0o777  # as the user's umask has it
    os.close(handle)
    try:
        yield new
        new.chmod(mode)  # safetensors makes a file of its own, for nobody else to read
        if settled:
            settle(new)
        os.replace(new, path)
        if settled:
            settle(path.parent)
    finally:
        new.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Have the system write a file to the disk, or which files a folder has."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems have no such call for a folder
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, settled: bool = False) -> None:
    """Write a UTF-8 file whole or not at all."""
    write_bytes(path, text.encode("utf-8"), settled=settled)


def write_bytes(path: Path, data: bytes, *, settled: bool = False) -> None:
    """The same for bytes. A file that holds them already is left alone."""
    if path.is_file() and path.read_bytes() == data:
        return
    with whole(path, settled=settled) as new:
        new.write_bytes(data)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers of these files left in a folder as they were killed. Nobody may be writing there."""
    for pattern in (*(f".{name[:40]}.????????" for name in names), ".tmp??????"):  # the last is how safetensors writes
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def network_of(path: Path) -> Path:
    """`path` itself, or the best network, else the last one, of a run directory. CheckpointError where it has none."""
    if not path.is_dir():
        return path
    for name in NETWORKS:
        if (path / name).is_file():
            return path / name
    why = f"there is neither {' nor '.join(NETWORKS)} in it"
    again = resuming(path) if (path / STATE).is_file() else command("train", "-c", path / "config.toml")
    fix = f"{again}, or name a .safetensors file"
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
