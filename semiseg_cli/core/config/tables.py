"""The tables of the papers: every row is one `semiseg train` command.

`semiseg_cli/tables/<method>.toml` holds a note on all of them, and one [[row]] per row of the method's paper:

    note = "MaskMatch (arXiv 2312.08631): tables 5 to 9, ResNet-101."

    [[row]]
    table = "8"
    row = "no masked task"
    labeled = "classic/92"                 # a partition, as --labeled takes it
    preset = "voc-r101"
    method = "unimatch"                    # where it is another than the file's (a baseline)
    data = "voc"                           # the default
    add = ["interpixel"]                   # plug-ins, if any
    set = { "method.masked_task" = "none" }     # settings, if any
    published = 72.62                      # the paper's mIoU in percent, if it gives one
"""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

FOLDER = resources.files("semiseg_cli") / "tables"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table: what to train, and what the paper reached."""

    table: str
    row: str
    method: str
    labeled: str
    preset: str
    data: str = "voc"
    add: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    published: float | None = None

    @property
    def flags(self) -> dict[str, Any]:
        """What its options set, as `presets.gather` takes it."""
        flags: dict[str, Any] = {
            "method.name": self.method, "data.name": self.data, "data.labeled": self.labeled
        }  # fmt: skip
        return flags | ({"method.add": tuple(self.add)} if self.add else {})

    @property
    def pairs(self) -> list[str]:
        """The texts of its --set options."""
        return [f"{name}={_typed(value)}" for name, value in self.set.items()]

    @property
    def command(self) -> str:
        """The command line that trains it."""
        words = ["-m", self.method, "-d", self.data, "-l", self.labeled, "-p", self.preset]
        words += [word for name in self.add for word in ("--add", name)]
        words += [word for pair in self.pairs for word in ("-s", pair)]
        return shlex.join(["semiseg", "train", *words])


def table_rows(method: str) -> list[Row]:
    """The rows of the tables of a method's paper; none where there is no file of them."""
    return [Row(**{"method": method, **row}) for row in _read(method).get("row", [])]


def table_note(method: str) -> str:
    """What is to be known of the tables of a method's paper; nothing where there is no file of them."""
    return " ".join(str(_read(method).get("note", "")).split())


def _read(method: str) -> dict[str, Any]:
    file = FOLDER / f"{method}.toml"
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}


def _typed(value: Any) -> str:
    """A value as it is typed after the = of --set."""
    if isinstance(value, list):
        return ",".join(map(_typed, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
