"""What the report of several runs shows: their table, their curves side by side, what differs, and each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from semiseg_cli.core.errors import few
from semiseg_cli.core.partitions.titles import recorded
from semiseg_cli.core.report.charts import STYLES, Chart, Series, lines
from semiseg_cli.core.report.tables import by_frequency
from semiseg_cli.stages.apart import as_text, told_apart, varied
from semiseg_cli.stages.recorded import Recorded
from semiseg_cli.stages.report_run import duration

PAGE = "report.html"  # in a run's directory, and in the folder of a comparison
HEADINGS = {
    "table": "Comparison", "curves": "Training", "classes": "Classes", "settings": "What differs", "runs": "Runs",
}  # fmt: skip
CLASSES = "IoU in percent at the last step, mean over runs; the most frequent class first"
Groups = dict[str, list[Recorded]]  # runs by what tells them from others
Named = Mapping[str, str]
NONE: Named = {}
GROUPS = 16  # that have a column of their own in the tables of classes and settings


def told(
    found: Sequence[Recorded], table: dict[str, Any] | None, failed: Mapping[str, str], page: Path, named: Named = NONE
) -> dict[str, Any]:
    """What `comparison.html` is filled with. table: titles and lines of the runs' groups. page: where it is written."""
    datasets = list(dict.fromkeys(map(data_of, found)))
    parts = {name: grouped([run for run in found if data_of(run) == name], named) for name in datasets}
    curves = _curves(parts)
    groups = {_of(parts, name, data): runs for data, part in parts.items() for name, runs in part.items()}
    tables = {data: rows for data, part in parts.items() if (rows := _classes(part))}
    classes = [(data, CLASSES, list(parts[data]), rows) for data, rows in tables.items()]
    differences = _differences(groups)
    shown = {"table": bool(table), "curves": bool(curves), "classes": bool(classes), "settings": bool(differences)}
    trained = [named.get(each.run.name, each.title) for each in found]
    methods = list(dict.fromkeys(trained))
    return {
        "kicker": f"semiseg, {len(found)} runs",
        "title": f"{few(methods, 4)} on {few(datasets, 4)}",
        "subtitle": "",
        "sections": {name: heading for name, heading in HEADINGS.items() if shown.get(name, True)},
        "table": table,
        "curves": curves,
        "names": list(groups),
        "classes": classes,
        "differences": differences,
        "columns": ["run", "dataset", "method", "encoder", "seed", "last", "best", "time", "memory", "labels"],
        "runs": [
            {"name": each.run.name, "link": _link(each.run, page), "cells": _cells(each, title)}
            for each, title in zip(found, trained, strict=True)
        ],
        "failed": list(failed.items()),
    }


def titles(found: Sequence[Recorded], named: Named = NONE) -> list[str]:
    """What trained each run; settings, or a number, tell it from others of its data, method, encoder and labels.

    named: what a comparison calls the runs, by the names of their directories; it counts if it knows all of them.
    """
    if all(run.run.name in named for run in found):
        return [named[run.run.name] for run in found]
    return told_apart([(run.title, run.config) for run in found])


def grouped(found: Sequence[Recorded], named: Named = NONE) -> Groups:
    """Runs of a dataset that differ in their seed only, by what tells the groups apart."""
    parts = [part for part in (encoder_of, labels_of) if len({part(run) for run in found}) > 1]
    groups: Groups = {}
    for title, run in zip(titles(found, named), found, strict=True):
        groups.setdefault(", ".join([title, *(part(run) for part in parts)]), []).append(run)
    return groups


def _of(parts: Mapping[str, object], what: str, data: str) -> str:
    """What is shown of one of several datasets."""
    return f"{what}, {data}" if len(parts) > 1 else what


def data_of(run: Recorded) -> str:
    return str(run.config["data.name"])


def encoder_of(run: Recorded) -> str:
    return str(run.config["model.backbone"])


def labels_of(run: Recorded) -> str:
    return f"{run.config['data.labeled'] or 'all'} labels"


def _curves(parts: Mapping[str, Groups]) -> list[Chart]:
    """Charts of each dataset, in all of which a group has the same line."""
    every = dict.fromkeys(group for groups in parts.values() for group in groups)
    styles = {group: k % STYLES for k, group in enumerate(every)}
    charts: list[Chart | None] = []
    for number, (data, groups) in enumerate(parts.items()):

        def series(name: str, factor: float = 1.0, groups: Groups = groups) -> list[Series]:
            return [
                Series(group, points, styles[group])
                for group, members in groups.items()
                for run in members
                if (points := run.curve(name, factor))
            ]

        miou, loss, kept = (
            _of(parts, what, data)
            for what in ("mIoU on the validation images", "Loss, of each method its own", "Pseudo-labels that are kept")
        )
        charts += [
            lines(f"miou-{number}", miou, series("miou"), unit=" %"),
            lines(f"loss-{number}", loss, series("loss")),
            lines(f"kept-{number}", kept, series("kept", 100), unit=" %", zero=True),
        ]
    return [chart for chart in charts if chart]


def _classes(groups: Groups) -> list[Any]:
    """Rows of the classes with the mean IoU of each group; none where the runs do not have the same classes."""
    every = [run for members in groups.values() for run in members if run.last]
    if len(groups) > GROUPS or len({tuple(run.classes) for run in every}) != 1:
        return []
    names = every[0].classes
    known = [run.evaluation for run in every if run.evaluation]
    frequency = [fmean(values) for values in zip(*(each["frequency"] for each in known), strict=True)] if known else []
    palette = known[0].get("palette", []) if known else []
    return by_frequency(names, palette, frequency, [_mean_iou(members, names) for members in groups.values()])


def _mean_iou(members: Sequence[Recorded], names: Sequence[str]) -> dict[str, float | None]:
    found = {name: [run.last["iou"].get(name) for run in members if run.last] for name in names}
    values = {name: [value for value in each if value is not None] for name, each in found.items()}
    return {name: fmean(each) if each else None for name, each in values.items()}


def _differences(groups: Groups) -> list[list[str]]:
    """A row for each setting of all groups that is not the same in all: its value in each."""
    if not 1 < len(groups) <= GROUPS:
        return []
    firsts = [members[0].config for members in groups.values()]
    return [[name, *(as_text(config[name]) for config in firsts)] for name in varied(firsts)]


def _cells(run: Recorded, title: str) -> list[str]:
    def miou(row: dict[str, Any] | None) -> str:
        return f"{row['miou']:.2f}" if row else ""

    labels = recorded(run.partition) or str(run.config["data.labeled"] or "all")
    memory = run.result.get("peak_memory_bytes")
    time = duration(run.result["seconds"]) if "seconds" in run.result else f"step {run.step:,} of {run.steps:,}"
    return [
        data_of(run), title, encoder_of(run), str(run.config["train.seed"]), miou(run.last), miou(run.best), time,
        f"{memory / 2**30:.2f} GiB" if memory else "", labels,
    ]  # fmt: skip


def _link(run: Path, page: Path) -> str:
    """The run's own report as seen from the page; empty where it has none."""
    if not (run / PAGE).is_file():
        return ""
    return quote(Path(os.path.relpath(run / PAGE, page.parent)).as_posix())
