"""What the run directories say: a row per run, and mean and deviation over the runs that differ in their seed only."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypedDict

from semiseg_cli.core import runs
from semiseg_cli.core.errors import SemisegError
from semiseg_cli.core.inference.metrics import HEADLINE, METRICS, quality
from semiseg_cli.core.partitions.protocols import recognise
from semiseg_cli.core.partitions.titles import recorded
from semiseg_cli.core.reading import shaped
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.runs.results import read_partition, read_result
from semiseg_cli.stages.apart import told_apart, trained_by

Row = dict[str, Any]
Settings = TypedDict(  # that a row tells
    "Settings",
    {
        "method.name": str, "data.name": str, "data.labeled": str, "model.backbone": str, "train.seed": int,
        "train.steps": int,
    },
)  # fmt: skip


def summarise_runs(root: Path) -> dict[str, Any]:
    """The runs below `root`, the newest first, the groups of seeds among them, and what could not be read.

    A row's title is its method, with the settings that tell it from other runs but for what the row has itself.
    A group's mean and sample deviation are over finished runs of different seeds (of one seed's runs the newest) whose
    configurations are equal otherwise, on the same published partition, or on own ones of the same protocol, with as
    many unlabeled images; -1 as data.split_seed means that own ones differ in their images, too.
    """
    rows, configs, unreadable = list[Row](), list[dict[str, Any]](), list[str]()
    for run in runs.list_runs(root):
        try:
            config = shaped(runs.read_config(run), Settings)
            rows.append(_row(run, config))
            configs.append(config)
        except (SemisegError, OSError, ValueError) as error:
            unreadable.append(f"{run}: {error}")
    methods = [row["method"] for row in rows]
    for row, title in zip(rows, told_apart(list(zip(methods, configs, strict=True)), ("train.steps",)), strict=True):
        row["title"] = title
    return {"runs": rows, "seeds": _over_seeds(rows, configs), "unreadable": unreadable}


def _row(run: Path, config: dict[str, Any]) -> Row:
    rows, partition = read_metrics(run), read_partition(run)
    evaluated = [row for row in rows if HEADLINE.name in row]
    measured, best_by = [row[HEADLINE.name] for row in evaluated], str(config.get("train.best_by", HEADLINE.name))
    logged = [metric.name for metric in METRICS if not metric.by_class and not metric.option]
    return {
        "run": str(run),
        "method": trained_by(config, read_result(run) if runs.is_finished(run) else {}),
        "data": config["data.name"],
        "labeled": config["data.labeled"] or "all",
        "partition": recorded(partition),
        "unlabeled": partition.get("unlabeled"),
        "fingerprint": partition.get("fingerprint", ""),
        "protocol": partition.get("protocol", ""),
        "backbone": config["model.backbone"],
        "seed": config["train.seed"],
        "step": max((row["step"] for row in rows), default=0),
        "steps": config["train.steps"],
        "last": measured[-1] if measured else None,
        "best": max(evaluated, key=lambda row: quality(row, best_by))[HEADLINE.name] if evaluated else None,
        "best_by": best_by,
        "metrics": {name: evaluated[-1].get(name) if evaluated else None for name in logged},
        "finished": runs.is_finished(run),
    }


def _over_seeds(rows: list[Row], configs: list[dict[str, Any]]) -> list[Row]:
    groups: dict[str, dict[int, Row]] = {}
    for row, config in zip(rows, configs, strict=True):
        if row["finished"] and row["last"] is not None:
            others = {name: value for name, value in config.items() if name != "train.seed"}
            known = recognise(row["fingerprint"])
            images = [known.words if known else "", row["protocol"], row["unlabeled"]]
            groups.setdefault(json.dumps([others, images], sort_keys=True), {}).setdefault(row["seed"], row)
    return [_group(list(seeds.values())) for seeds in groups.values() if len(seeds) > 1]


def _group(rows: list[Row]) -> Row:
    found = {key: rows[0][key] for key in ("method", "title", "data", "labeled", "protocol", "backbone", "steps")}
    names = {row["partition"] for row in rows}
    found["partition"] = names.pop() if len(names) == 1 else _several(names)
    for key in ("last", "best"):
        values = [row[key] for row in rows]
        found[key] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
    return found | {"seeds": sorted(row["seed"] for row in rows)}


def _several(names: Collection[str]) -> str:
    """Own partitions of several seeds, by what else they share."""
    without = {re.sub(r" seed \d+,", "", name) for name in names}
    words = without.pop() if len(without) == 1 else "own partition"
    return f"{len(names)} {words.replace('own partition', 'own partitions')}"
