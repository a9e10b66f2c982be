"""metrics.jsonl: a line for every few steps, and one for every evaluation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from semiseg_cli.core.files import settle
from semiseg_cli.core.reading import parse_json, read_text
from semiseg_cli.core.runs.disk import damaged, write, writing


class Logged(TypedDict):
    """A line of metrics.jsonl: of steps, or with a `miou` of an evaluation."""

    step: int
    miou: NotRequired[float]
    pixel_accuracy: NotRequired[float]
    iou: NotRequired[dict[str, float | None]]


def append_metrics(run: Path, row: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl; `row` holds `step`."""
    path = run / "metrics.jsonl"
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def settle_metrics(run: Path) -> None:
    """Have all of metrics.jsonl on the disk."""
    path = run / "metrics.jsonl"
    with writing(path):
        if path.exists():
            settle(path)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line that a crash cut short is left out, other damage is a CheckpointError."""
    path, rows = run / "metrics.jsonl", list[dict[str, Any]]()
    try:
        lines = read_text(path).split("\n")[:-1] if path.exists() else []
        for line in lines:
            rows.append(parse_json(line, Logged))
    except (OSError, ValueError) as error:
        number = len(rows) + 1
        raise damaged(path, f"line {number}: {error}", f"sed -i {number}d {shlex.quote(str(path))}") from error
    return rows


def numbers(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line of the log by name; one by class as `name/class`."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float):
            yield f"{before}{name}", value


def truncate_metrics(run: Path, step: int, measured: int) -> None:
    """Drop rows after `step`, and evaluations after `measured`: a resumed run writes them again."""
    rows = [row for row in read_metrics(run) if row["step"] <= (measured if "best_miou" in row else step)]
    write(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
