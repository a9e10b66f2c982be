"""Repeat a run from its directory: the same data, partition, settings, seed and first weights.

Or an error that says what is another. On a CPU the weights that come of it are the same to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.files import NETWORKS, digest
from semiseg_cli.core.places import contents, environment, find_root
from semiseg_cli.core.runs.environment import PACKAGES
from semiseg_cli.core.runs.results import earlier_results, read_partition
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.checkpoint import read
from semiseg_cli.stages.foresee import members

VERSIONS = ("semiseg", *PACKAGES, "device", "processes")


def begun_from(config: Config, init: Path | None) -> dict[str, dict[str, str]]:
    """The files that a new run's first weights are from, each with its digest, as environment.json keeps them."""
    weights = Path(config.model.weights)
    files = {"init": init, "weights": weights if weights.is_file() else None}
    return {name: {"file": str(file.absolute()), "sha256": digest(file)} for name, file in files.items() if file}


def repeated(run: Path, data_root: Path | None) -> tuple[Resolved, Path, Path | None]:
    """What `train` is given to repeat a run: configuration, data root, and the checkpoint it began with.

    Raises DataError where dataset or partition are not those of the run, CheckpointError where the files of its first
    weights are not, UsageError for a run of an earlier version that does not say.
    """
    config, before = runs.config_of(run), environment(run)
    if earlier := earlier_results(run):
        steps = [result["steps"] for result in earlier]
        what = f"{run} went on for longer after {', '.join(f'{count:,}' for count in steps)} steps"
        fix = f"train as long at once: {_settings(run)}"
        raise UsageError(what, why="one training cannot repeat it: its learning rate rose again there", fix=fix)
    root = find_root(config.data.name, data_root, run)
    _same_data(run, config, root, before)
    init = _first_weights(run, before)
    origin = f"the run {run}"
    return Resolved(config, dict.fromkeys(flatten(config), origin)), root, init


def _same_data(run: Path, config: Config, root: Path, before: dict[str, Any]) -> None:
    dataset, partition = members(config, root)
    held = before.get("data", {}).get("holds")
    if held and held != contents(dataset.root):
        what = f"{dataset.root} holds something else than when {run} was trained"
        why = "its images, masks, classes or validation set are others: it was prepared again since"
        raise DataError(what, why=why, fix="prepare it as it was, or name the folder where it still is: --root DIR")
    kept = read_partition(run)
    now = {"fingerprint": partition.fingerprint, "labeled": len(partition.labeled)}
    now |= {"unlabeled": len(partition.unlabeled)}
    differ = [f"{key}: {kept[key]} there, {value} here" for key, value in now.items() if kept.get(key, value) != value]
    if differ or not kept:
        why = "; ".join(differ) or "it is of an earlier version, which did not note them"
        fix = f"put the split back as it was (<dataset>/splits), or train with its settings: {_settings(run)}"
        raise DataError(f"the labeled images of {run} cannot be had again", why=why, fix=fix)


def _first_weights(run: Path, before: dict[str, Any]) -> Path | None:
    """The checkpoint that the run began with. Raises CheckpointError where its file, or the encoder's, is another."""
    if "files" not in before:
        what = f"{run} does not say which files its first weights were from"
        raise UsageError(what, why="it is of an earlier version", fix=_settings(run))
    for file in before["files"].values():
        path = Path(file["file"])
        if not path.is_file() or digest(path) != file["sha256"]:
            why = "it changed since" if path.is_file() else "it is not there any more"
            raise CheckpointError(f"{run} began with {path}", why=why, fix="bring it back as it was")
    found = before["files"].get("init")
    return Path(found["file"]) if found else None


def changed(run: Path, again: Path) -> list[str]:
    """What is another in the environment of a run that repeats one, in lines."""
    then, now = environment(run), environment(again)
    differ = [key for key in VERSIONS if key in then and then[key] != now.get(key)]
    return [f"{key}: {then[key]} there, {now.get(key)} here" for key in differ]


def same_weights(run: Path, again: Path) -> bool | None:
    """Whether the last networks of two runs are the same to the bit; None where one is not at its end, or not there."""
    name = NETWORKS[1]
    files = [each / name for each in (run, again)]
    if not all(file.is_file() for file in files):
        return None
    (one, first), (two, second) = (read(file) for file in files)
    if first["step"] != second["step"]:
        return None
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def _settings(run: Path) -> str:
    return command("train", "-c", run / "config.toml")
