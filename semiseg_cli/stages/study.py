"""The runs of a comparison: which they are, and where each of them lies.

A run's directory is named after what it trains, with a fingerprint of every setting, of its labels and of its images:
the same command finds the runs that are done, a larger one (more seeds, another method) takes them, and nothing that
was trained otherwise passes for them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.config.presets import gather
from semiseg_cli.core.config.tables import Row
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.runs.results import earlier_results, read_result
from semiseg_cli.core.training.setup import usual_side
from semiseg_cli.stages.foresee import members, planned
from semiseg_cli.stages.probe import settings_of

NO_COST = (
    "data.name", "data.labeled", "data.balance", "data.pairs", "train.seed", "train.steps", "train.epochs",
)  # settings that a step costs the same without
LATER = {"train.best_by": "miou", "train.patience": 0}  # settings that runs of earlier versions had like this
PROBE = "probe"  # what trains a head on a frozen encoder, beside the methods
ADD = "method.add="
OF_PROBE = {"model.weights": "--weights", "train.steps": "--steps"}  # of the flags, those that it has as options


@dataclass(frozen=True)
class Cell:
    """One run. title: of what trains. words: the command line that trains it, after `semiseg`, less the options `place`
    of data and device, and where it is written. steps: that it takes. pace: runs that share it
    have steps of the same cost. partition: the fingerprint of the labeled images."""

    title: str
    backbone: str
    data: str
    labeled: str
    seed: int
    steps: int
    words: tuple[str, ...]
    place: tuple[str, ...]
    run: Path
    row: Row | None = None  # of a paper's table
    pace: str = ""
    partition: str = ""

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What the runs of one row of the result share."""
        return self.data, self.labeled, self.title, self.backbone

    @property
    def labels(self) -> tuple[str, str, int, str]:
        """Which images are labeled, which are held out, and the seed: runs that share it can be paired."""
        return self.labeled, self.data, self.seed, self.partition


@dataclass(frozen=True)
class Asked:
    """What is the same in all runs. flags, pairs, config, preset: as `presets.gather` takes them."""

    root: Path
    folder: Path  # of the runs
    device: str = "auto"
    flags: tuple[tuple[str, str], ...] = ()  # settings by name
    pairs: tuple[str, ...] = ()
    config: Path | None = None
    preset: str = ""

    @property
    def words(self) -> list[str]:
        """As options of `semiseg train`."""
        named = ["--config", str(self.config)] * bool(self.config) + ["--preset", self.preset] * bool(self.preset)
        return [*named, *_sets(self.typed)]

    @property
    def typed(self) -> list[str]:
        """Flags and pairs, each as the text of a --set."""
        return [*(f"{name}={value}" for name, value in self.flags), *self.pairs]


def study(
    asked: Asked,
    datasets: Sequence[str],
    labeled: Sequence[str],
    methods: Sequence[str],
    backbones: Sequence[str],
    seeds: Sequence[int],
) -> list[Cell]:
    """Every method on every encoder for every seed, dataset and number of labels; seeds come last, so that a comparison
    that is stopped early has whole rounds. methods: as `variant` takes them. backbones: "" is what the preset has, and
    for a probe its own. Beside methods a probe has steps of its own, and the weights that are asked for where its
    encoder is named. What is named twice, also in two ways, is one run, by the name that came first.

    Raises what resolving any of their settings raises, before the first run.
    """
    rounds, alone = itertools.product(seeds, datasets, labeled, methods, backbones), {*methods} == {PROBE}
    cells = [_cell(asked, method, backbone, data, count, seed, alone) for seed, data, count, method, backbone in rounds]
    return list({cell.run: cell for cell in reversed(cells)}.values())[::-1]


def variant(text: str) -> tuple[str, list[str]]:
    """The method, and the settings of its own as texts of --set, of `unimatch+interpixel train.cutmix=0`.

    Raises UsageError for a method there is not, and for a probe, which has no settings.
    """
    try:
        name, *pairs = shlex.split(text)
    except ValueError as error:
        fix = "-m 'unimatch train.cutmix=0'"
        raise UsageError(f"--method {text!r} cannot be read", why=str(error), fix=fix) from None
    method, *plugins = name.split("+")
    if method not in METHODS and method != PROBE:
        each = " ".join(f"-m {shlex.quote(word)}" for word in (*name.split(",")[:-1], text.rpartition(",")[2]))
        fix = each if "," in name else did_you_mean(method, (*METHODS, PROBE))
        raise UsageError(f"there is no method '{method}'", fix=fix)
    if method == PROBE and (plugins or pairs):
        raise UsageError(f"a probe takes no settings of its own: {text}", fix="-m probe with --steps, --weights and -b")
    return method, [f"{ADD}{','.join(plugins)}"] * bool(plugins) + pairs


def table(asked: Asked, rows: Iterable[Row], seeds: Sequence[int]) -> list[Cell]:
    """The rows of a paper's tables as runs, of which several rows may have one. Settings in `asked` go over theirs."""
    return [_of_row(asked, row, seed) for seed in dict.fromkeys(seeds) for row in rows]


def _cell(asked: Asked, text: str, backbone: str, data: str, labeled: str, seed: int, alone: bool) -> Cell:
    method, pairs = variant(text)
    flags = {"data.name": data, "data.labeled": labeled, "model.backbone": backbone, "train.seed": seed}
    flags = {name: value for name, value in flags.items() if value != ""}
    if method == PROBE:
        own = {name: value for name, value in asked.flags if alone or (backbone and name == "model.weights")}
        resolved = settings_of(flags | own)
        words = ["probe", data, "--seed", str(seed)]
        words += [word for name, value in own.items() for word in (OF_PROBE[name], value)]
    else:
        flags["method.name"] = method
        every = [*asked.typed, *pairs]  # in the order of the words
        resolved = gather(flags, every, dataset=_kind(asked.root), config=asked.config, preset=asked.preset)
        words = ["train", "--data", data, "--method", method, "--seed", str(seed), *asked.words, *_sets(pairs)]
        if (other := resolved.config.train.seed) != seed:
            raise UsageError("train.seed is set, where --seeds says the seeds", fix=f"--seeds {other}")
    words += ["--labeled", labeled] * bool(labeled) + ["--backbone", backbone] * bool(backbone)
    named = [pair for pair in pairs if not pair.startswith(ADD)]  # plug-ins are in the title
    title = PROBE if method == PROBE else " ".join([resolved.config.title, *named])
    return _placed(asked, resolved, title, words, None)


def _of_row(asked: Asked, row: Row, seed: int) -> Cell:
    flags = row.flags | {"train.seed": seed}
    pairs = [*row.pairs, *asked.typed]  # in the order of the words
    resolved = gather(flags, pairs, dataset=_kind(asked.root), config=asked.config, preset=asked.preset or row.preset)
    words = [*row.words, "--seed", str(seed), *asked.words]
    return _placed(asked, resolved, f"{row.place}, {row.row}", words, row)


def _placed(asked: Asked, resolved: Resolved, title: str, words: list[str], row: Row | None) -> Cell:
    probed = words[0] == PROBE
    resolved = resolved if probed else planned(resolved, asked.root, asked.device)
    config = resolved.config
    dataset, partition = members(config, asked.root)
    name = runs.run_name(config)
    images = [manifest(dataset.root)["fingerprints"], partition.fingerprint, len(partition.unlabeled)]
    settings = {name: value for name, value in flatten(config).items() if LATER.get(name, ...) != value}
    mark = _mark([words[0], settings, images])
    run = asked.folder / f"{name.replace('-supervised-', '-probe-') if probed else name}-{mark}"
    place = ("--root", str(asked.root), "--device", asked.device)
    alike = {name: value for name, value in settings.items() if name not in NO_COST}
    pace = _mark([words[0], alike, len(dataset.classes), usual_side(dataset)])
    return Cell(
        title, config.model.backbone, config.data.name, config.data.labeled or "all",
        config.train.seed, config.train.steps, tuple(words), place, run, row, pace, partition.fingerprint,
    )  # fmt: skip


def _sets(pairs: Iterable[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def _mark(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:8]


def _kind(root: Path) -> Callable[[str], tuple[str, str]]:
    return lambda name: (name, load_dataset(root, name).kind)


def result_of(cell: Cell) -> dict[str, Any] | None:
    """What a run came to after the steps of the cell, also where it went on to more; None for one that is not there."""
    found = earlier_results(cell.run) + ([read_result(cell.run)] if runs.is_finished(cell.run) else [])
    return next((each for each in reversed(found) if each["steps"] <= cell.steps), None)
