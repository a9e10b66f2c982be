"""`semiseg runs`: what has been trained, and how well."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg_cli.cli import console, options
from semiseg_cli.core.commands import command
from semiseg_cli.core.inference.metrics import HEADLINE, METRICS

if TYPE_CHECKING:
    from rich.table import Table

ENDS = ("last", "best")
SHARED = ("data", "labeled", "steps")  # columns that are left out where all lines have the same
OWN = r"own partitions?, (?:seed \d+, )?"  # how the name of an own partition begins
FOLDED = ("method", "data", "labeled", "steps", "over seeds")


def runs_(
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
) -> None:
    """List the runs, the newest first: mIoU at the last evaluation and at the best, in percent.

    Beside a method stand settings that tell its runs apart. Steps 40/90: 40 are done of a run that is not finished.
    Runs that differ in their seed only are summed up: mean and sample deviation.
    """
    from semiseg_cli.stages.runs import summarise_runs

    found = summarise_runs(runs_root)
    for line in found["unreadable"]:
        console.warn(f"left out, not readable: {line}")
    none = f"no run in {runs_root} yet ({command('train', runs=runs_root)})"
    text = _text(found, runs_root) if found["runs"] else none
    console.result("runs", found, text, json)


def _text(found: dict[str, Any], root: Path) -> list[str | Table]:
    """Two tables. What is the same in all runs is said above them, so that a narrow terminal has room for the rest."""
    rows, more = found["runs"], [metric for metric in METRICS if metric.runs]
    columns = {"run": [Path(row["run"]).name for row in rows], **_shared(rows)}
    columns |= {end: [console.percent(row[end]) for row in rows] for end in ENDS}
    columns |= {metric.title: [console.percent(row["metrics"].get(metric.name)) for row in rows] for metric in more}
    same = {title: column[0] for title in SHARED if len({*(column := columns[title])}) == 1}
    what = ", ".join([f"{HEADLINE.title} (last, best)", *(metric.title for metric in more)])
    said = "; ".join([f"{root}, {what} in percent", *(f"{title}: {value}" for title, value in same.items())])
    parts: list[str | Table] = [said, _table(columns, same)]
    if seeds := found["seeds"]:
        spreads = {key: [f"{row[key]['mean']:.2f} ± {row[key]['deviation']:.2f}" for row in seeds] for key in ENDS}
        which = [f"{row['backbone']}, seeds {' '.join(map(str, row['seeds']))}" for row in seeds]
        parts += ["", _table({"over seeds": which, **_shared(seeds), **spreads}, same)]
    return parts


def _shared(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Columns that both tables have."""
    return {
        "method": [row["title"] for row in rows],
        "data": [row["data"] for row in rows],
        "labeled": [_labeled(row) for row in rows],
        "steps": [_steps(row) for row in rows],
    }


def _table(columns: Mapping[str, Sequence[str]], left_out: Collection[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = {title: column for title, column in columns.items() if title not in left_out}
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in shown:
        table.add_column(title, no_wrap=title not in FOLDED)  # names are to be copied
    for line in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, line))
    return table


def _steps(row: dict[str, Any]) -> str:
    return str(row["steps"]) if row.get("finished", True) else f"{row['step']}/{row['steps']}"


def _labeled(row: dict[str, Any]) -> str:
    """The partition: a published one by its name, an own one by its size; or as it was asked for."""
    if row["partition"]:
        return re.sub(OWN, "own, ", row["partition"]).replace(" (classes)", "").removesuffix(" labeled images")
    text = str(row["labeled"])
    return text if text.replace("/", "").isalnum() and text.count("/") < 2 else Path(text).name
