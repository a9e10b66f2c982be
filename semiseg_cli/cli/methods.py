"""`semiseg methods`: which papers there are, and every setting of one of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import complete_methods
from semiseg_cli.core.config.describe import NEEDS, Description, describe_method
from semiseg_cli.core.config.tables import Row, table_note, table_rows
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS

if TYPE_CHECKING:
    from rich.table import Table


def methods(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="all about this method or plug-in", autocompletion=complete_methods)
    ] = "",
    json: options.Json = False,
) -> None:
    """List the methods and the plug-ins; with NAME: its paper, needs, settings, and its tables as commands."""
    if name:
        found, rows, note = describe_method(name), table_rows(name), table_note(name)
        shown = [asdict(row) | {"command": row.command, "evaluation": row.evaluation} for row in rows]
        data = asdict(found) | {"note": note, "rows": shown}
        console.result("methods", data, _one(found, note, rows), json)
    else:
        every = [describe_method(each) for each in METHODS]
        console.result("methods", [asdict(each) for each in every], _all(every), json)


def _all(every: list[Description]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("method", "paper", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True  # to be copied
    for each in every:
        table.add_row(each.name, Text(each.paper))
    for name in PLUGINS:
        table.add_row(f"--add {name}", Text(describe_method(name).paper))
    return table


def _one(found: Description, note: str, rows: list[Row]) -> list[str | Table]:
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "default", "allowed", "meaning", box=None, header_style="dim", pad_edge=False)
    section = found.name if found.name in PLUGINS else "method"
    for setting in found.settings:
        row = (f"{section}.{setting.name}", str(setting.default), setting.allowed, setting.meaning)
        table.add_row(*map(Text, row))
    lines = [console.prose(found.paper), "", console.prose(found.text), ""]
    if found.name in PLUGINS:
        lines += [f"train with it: semiseg train --method METHOD --add {found.name}", ""]
    else:
        changes = "; ".join(f"{name} = {value}" for name, value in found.changes.items())
        lines += [f"needs: {_needs(found)}", *[f"changes: {changes}"] * bool(changes)]
        lines += [f"train with it: semiseg train --method {found.name}", ""]
    end = ["", console.prose(note)] * bool(note) + _commands(rows)
    return ["\n".join(lines), table, *["\n".join(end)] * bool(end)]


def _commands(rows: list[Row]) -> list[str]:
    """The rows of the paper's tables as lines, one command each, to be pasted."""
    lines = ["", "the paper's tables, a command a row (published: mIoU on val in percent)"] * bool(rows)
    for row in rows:
        lines += ["", row.title, f"  {row.command}", *[f"  {row.evaluation}"] * bool(row.evaluation)]
    return lines


def _needs(found: Description) -> str:
    parts = ["labeled images", *(NEEDS.get(word, word) for word in found.needs)]
    return ", ".join([*parts, *(f"{NEEDS.get(word, word)} (with some settings)" for word in found.may_need)])
