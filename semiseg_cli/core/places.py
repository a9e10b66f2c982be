"""Where the dataset of a run is: a run remembers it, and finds it beside itself where both were moved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from semiseg_cli.core.commands import data_root
from semiseg_cli.core.files import unwritable, write_text
from semiseg_cli.core.reading import read_json, read_toml

MEMORY = "environment.json"  # of a run
NEAR = 3  # folders above a run in which a moved dataset is looked for


class Place(TypedDict):
    """Where the dataset of a run is, from anywhere and from the run, and a digest of what it holds."""

    folder: str
    from_run: str
    holds: NotRequired[str]


class Memory(TypedDict, total=False):
    data: Place


def remember(run: Path, dataset: Path) -> None:
    """Note in the run where its dataset's folder is, from anywhere and from the run, and what it holds."""
    folder, file = dataset.absolute(), run / MEMORY
    data = {"folder": str(folder), "from_run": os.path.relpath(folder, run.absolute()), "holds": contents(folder)}
    try:
        write_text(file, json.dumps(environment(run) | {"data": data}, indent=2) + "\n")
    except OSError as error:
        raise unwritable(file, error) from error


def find_root(name: str, given: Path | None = None, source: Path | None = None) -> Path:
    """The data root for a dataset: as given; or the first that has it of those that the run's may be.

    source: a run directory, or a file in one. None: no run. The very dataset that the run was trained on goes before
    another one of its name. Where there is none, the answer is the default, and errors name it.
    """
    default = data_root()
    if given is not None or source is None:
        return default if given is None else given
    run = source if source.is_dir() else source.parent
    data = environment(run).get("data", {})
    there = [folder for folder in _folders(run.absolute(), name, data) if (folder / "dataset.toml").is_file()]
    same = [folder for folder in there if contents(folder) == data.get("holds")]
    found = next((folder.parent for folder in (*same, *there)), default)
    return default if found.absolute() == default.absolute() else found


def contents(folder: Path) -> str:
    """A digest of what a prepared dataset holds, wherever it lies; empty where that cannot be read."""
    try:
        table = read_toml(folder / "dataset.toml")
    except (OSError, ValueError):
        return ""
    held = [table.get(key) for key in ("kind", "classes", "counts", "pixels", "fingerprints")]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]


def _folders(run: Path, name: str, data: dict[str, Any]) -> Iterator[Path]:
    """Where the dataset may be, the likeliest first."""
    if os.environ.get("SEMISEG_DATA"):
        yield data_root() / name
    remembered = Path(data.get("folder", Path("data") / name))
    if data:
        yield from (remembered.parent / name, Path(os.path.normpath(run / data["from_run"])).parent / name)
    yield data_root() / name
    for above in run.parents[:NEAR]:
        yield above / remembered.parent.name / name


def environment(run: Path) -> dict[str, Any]:
    """What a run's environment.json says; empty where there is none that can be read."""
    try:
        found: dict[str, Any] = read_json(run / MEMORY, Memory)
    except (OSError, ValueError):
        return {}
    return found
