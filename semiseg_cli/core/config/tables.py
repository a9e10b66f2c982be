"""The tables of the papers: every number is printed beside the `semiseg train` command of its run.

`semiseg_cli/tables/<method>.toml` holds a note on all of them, and the tables as they are printed, a column for every
partition:

    note = "MaskMatch (arXiv 2312.08631): tables 1 to 9."

    [[table]]
    name = "1"
    preset = "voc-r101"
    labeled = ["classic/92", "classic/183"]     # its columns: partitions, as --labeled takes them

    [[table.row]]
    row = "supervised"
    method = "supervised"                       # where it is another than the file's (a baseline)
    set = { "model.output_stride" = 8 }         # settings, if any
    steps = [400, 880]                          # train.steps of each column, if they differ
    published = [40.26, 56.48]                  # what the paper reached in each column, if it says so

A row may have whatever a `Row` has; what stands in its table counts for all rows, `set` together with their own.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

FOLDER = resources.files("semiseg_cli") / "tables"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a table: what to train, and what the paper reached."""

    table: str
    row: str
    method: str
    labeled: str
    preset: str
    data: str = "voc"
    backbone: str = ""  # where it is another than the preset's
    weights: str = ""  # its file, where there is nothing to download
    add: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    evaluate: str = ""  # options of `semiseg eval RUN`, where the number is not the mIoU of the run itself
    metric: str = "mIoU"
    published: float | None = None  # in percent
    remark: str = ""  # e.g. what the paper leaves open of this run

    @property
    def title(self) -> str:
        """Where it stands in the paper, and the number that stands there."""
        what = "published" if self.metric == "mIoU" else f"published {self.metric}"
        number = "" if self.published is None else f"{what} {self.published:g}"
        return ", ".join(part for part in (self.place, self.row, number, self.remark) if part)

    @property
    def place(self) -> str:
        """The table or figure that it stands in."""
        return self.table if self.table.startswith("figure") else f"table {self.table}"

    @property
    def flags(self) -> dict[str, Any]:
        """What its options set, as `presets.gather` takes it."""
        named = {
            "method.name": self.method, "method.add": tuple(self.add), "data.name": self.data,
            "data.labeled": self.labeled, "model.backbone": self.backbone, "model.weights": self.weights,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value}

    @property
    def pairs(self) -> list[str]:
        """The texts of its --set options."""
        return [f"{name}={_typed(value)}" for name, value in self.set.items()]

    @property
    def words(self) -> list[str]:
        """The command line that trains it, after `semiseg`."""
        words = ["train", "-m", self.method, "-d", self.data, "-l", self.labeled, "-p", self.preset]
        words += ["-b", self.backbone] * bool(self.backbone) + ["--weights", self.weights] * bool(self.weights)
        words += [word for name in self.add for word in ("--add", name)]
        return words + [word for pair in self.pairs for word in ("-s", pair)]

    @property
    def command(self) -> str:
        """The command line that trains it."""
        return shlex.join(["semiseg", *self.words])

    @property
    def evaluation(self) -> str:
        """The command line that measures it; empty where the run's own result is the number."""
        return f"semiseg eval RUN {self.evaluate}" if self.evaluate else ""


def table_rows(method: str) -> list[Row]:
    """The rows of the tables of a method's paper; none where there is no file of them."""
    tables = _read(method).get("table", [])
    return [row for table in tables for line in table["row"] for row in _columns(method, table, line)]


def table_note(method: str) -> str:
    """What is to be known of the tables of a method's paper; nothing where there is no file of them."""
    return " ".join(str(_read(method).get("note", "")).split())


def _columns(method: str, table: dict[str, Any], line: dict[str, Any]) -> Iterator[Row]:
    """A line of a table as a row for every partition that it has a column for."""
    common = {key: value for key, value in table.items() if key not in ("name", "row")}
    row = {"method": method, "table": table["name"], **common, **line}
    labeled, name, settings = row.pop("labeled"), row.pop("row"), common.get("set", {}) | line.get("set", {})
    steps = [{"train.steps": each} for each in row.pop("steps", [])] or [{} for _ in labeled]
    published = row.pop("published", [None for _ in labeled])
    for partition, length, number in zip(labeled, steps, published, strict=True):
        title = f"{name}, {_count(partition)} labels" if len(labeled) > 1 else name
        yield Row(**row | {"row": title, "labeled": partition, "set": settings | length, "published": number})


def _count(partition: str) -> str:
    """The labels of a partition: 1323 of blender/1323-u2pl."""
    return partition.rpartition("/")[2].partition("-")[0]


def _read(method: str) -> dict[str, Any]:
    file = FOLDER / f"{method}.toml"
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}


def _typed(value: Any) -> str:
    """A value as it is typed after the = of --set."""
    if isinstance(value, list):
        return ",".join(map(_typed, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
