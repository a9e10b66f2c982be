"""`semiseg runs`: what has been trained, and how well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg_cli.cli import console, options
from semiseg_cli.core.commands import command
from semiseg_cli.core.inference.metrics import HEADLINE, METRICS

if TYPE_CHECKING:
    from rich.table import Table


def runs_(
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
) -> None:
    """List the runs, the newest first: mIoU at the last evaluation and at the best, in percent.

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
    from rich.table import Table
    from rich.text import Text

    more = [metric for metric in METRICS if metric.runs]
    titles = [metric.title for metric in more]
    table = Table("run", "method", "data", "labeled", "steps", "last", "best", *titles, box=None, header_style="dim")
    table.columns[0].no_wrap = True  # to be copied
    for row in found["runs"]:
        steps = str(row["steps"]) if row["finished"] else f"{row['step']}/{row['steps']}, unfinished"
        name = Path(row["run"]).name
        values = (row["last"], row["best"], *(row["metrics"].get(metric.name) for metric in more))
        cells = (name, row["method"], row["data"], _labeled(row), steps, *map(_percent, values))
        table.add_row(*map(Text, cells))
    what = ", ".join([f"{HEADLINE.title} (last, best)", *titles])
    parts: list[str | Table] = [f"{root}, {what} in percent", table]
    if found["seeds"]:
        seeds = Table("over seeds", "method", "data", "labeled", "steps", "last", "best", box=None, header_style="dim")
        for row in found["seeds"]:
            spread = [f"{row[key]['mean']:.2f} +- {row[key]['deviation']:.2f}" for key in ("last", "best")]
            which = f"{row['backbone']}, seeds {' '.join(map(str, row['seeds']))}"
            cells = (which, row["method"], row["data"], _labeled(row), str(row["steps"]), *spread)
            seeds.add_row(*map(Text, cells))
        parts += ["", seeds]
    return parts


def _labeled(row: dict[str, Any]) -> str:
    """The partition by its name, or as it was asked for."""
    if row["partition"]:
        return str(row["partition"])
    text = str(row["labeled"])
    return text if text.replace("/", "").isalnum() and text.count("/") < 2 else Path(text).name


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
