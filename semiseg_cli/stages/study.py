"""The runs of a comparison: which they are, and where each of them lies.

A run's directory is named after what it trains, with a fingerprint of every setting, of its labels and of its images:
the same command finds the runs that are done, a larger one (more seeds, another method) takes them, and nothing that
was trained otherwise passes for them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.config.presets import gather
from semiseg_cli.core.config.tables import Row
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.runs.results import read_result
from semiseg_cli.core.training.setup import usual_side
from semiseg_cli.stages.foresee import members, planned
from semiseg_cli.stages.probe import settings_of

NO_COST = (
    "data.name", "data.labeled", "data.balance", "data.pairs", "train.seed", "train.steps", "train.epochs",
)  # settings that a step costs the same without
LATER = {"train.best_by": "miou", "train.patience": 0}  # settings that runs of earlier versions had like this
PROBE = "probe"  # what trains a head on a frozen encoder, beside the methods
OF_PROBE = {"model.weights": "--weights", "train.steps": "--steps"}  # of the flags, those that it has as options


@dataclass(frozen=True)
class Cell:
    """One run. title: of what trains. words: the command line that trains it, after `semiseg`, less the options `place`
    of data and device, and where it is written. steps: that it takes. pace: runs that share it
    have steps of the same cost."""

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

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What the runs of one row of the result share."""
        return self.data, self.labeled, self.title, self.backbone

    @property
    def labels(self) -> tuple[str, str, int]:
        """What decides which images are labeled, and which are held out: runs that share it can be paired."""
        return self.labeled, self.data, self.seed


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
        return [*named, *(word for pair in self.typed for word in ("--set", pair))]

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
    that is stopped early has whole rounds. backbones: "" is what the preset has, and for a probe its own. Beside
    methods a probe has steps of its own, and the weights that are asked for where its encoder is named. What is named
    twice, also in two ways, is one run.

    Raises what resolving any of their settings raises, before the first run.
    """
    rounds, alone = itertools.product(seeds, datasets, labeled, methods, backbones), {*methods} == {PROBE}
    cells = [_cell(asked, method, backbone, data, count, seed, alone) for seed, data, count, method, backbone in rounds]
    return list({cell.run: cell for cell in cells}.values())


def table(asked: Asked, rows: Iterable[Row], seeds: Sequence[int]) -> list[Cell]:
    """The rows of a paper's tables as runs, of which several rows may have one. Settings in `asked` go over theirs."""
    return [_of_row(asked, row, seed) for seed in dict.fromkeys(seeds) for row in rows]


def _cell(asked: Asked, method: str, backbone: str, data: str, labeled: str, seed: int, alone: bool) -> Cell:
    flags = {"data.name": data, "data.labeled": labeled, "model.backbone": backbone, "train.seed": seed}
    flags = {name: value for name, value in flags.items() if value != ""}
    if method == PROBE:
        own = {name: value for name, value in asked.flags if alone or (backbone and name == "model.weights")}
        resolved = settings_of(flags | own)
        words = ["probe", data, "--seed", str(seed)]
        words += [word for name, value in own.items() for word in (OF_PROBE[name], value)]
    else:
        flags["method.name"] = method
        resolved = gather(flags, asked.typed, dataset=_kind(asked.root), config=asked.config, preset=asked.preset)
        words = ["train", "--data", data, "--method", method, "--seed", str(seed), *asked.words]
    words += ["--labeled", labeled] * bool(labeled) + ["--backbone", backbone] * bool(backbone)
    return _placed(asked, resolved, PROBE if method == PROBE else "", words, None)


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
        title or config.title, config.model.backbone, config.data.name, config.data.labeled or "all",
        config.train.seed, config.train.steps, tuple(words), place, run, row, pace,
    )  # fmt: skip


def _mark(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:8]


def _kind(root: Path) -> Callable[[str], tuple[str, str]]:
    return lambda name: (name, load_dataset(root, name).kind)


def result_of(run: Path) -> dict[str, Any] | None:
    """What a run came to; None for one that is not finished."""
    return read_result(run) if runs.is_finished(run) else None
