"""`semiseg methods`: which papers there are, and every setting of one of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.complete import complete_methods
from semiseg_cli.core.describe import NEEDS, Description, describe_method
from semiseg_cli.core.methods import METHODS

if TYPE_CHECKING:
    from rich.console import RenderableType


def methods(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="all about this method", autocompletion=complete_methods)
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """List the methods; with NAME: its paper, what it needs, and every setting with its default and meaning."""
    if name:
        found = describe_method(name)
        console.result("methods", asdict(found), _one(found), json)
    else:
        every = [describe_method(each) for each in METHODS]
        console.result("methods", [asdict(each) for each in every], _all(every), json)


def _all(every: list[Description]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("method", "paper", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for each in every:
        table.add_row(each.name, Text(each.paper))
    return table


def _one(found: Description) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "default", "allowed", "meaning", box=None, header_style="dim", pad_edge=False)
    for setting in found.settings:
        row = (f"method.{setting.name}", str(setting.default), setting.allowed, setting.meaning)
        table.add_row(*map(Text, row))
    changes = "; ".join(f"{name} = {value}" for name, value in found.changes.items())
    lines = [found.paper, "", found.text, "", f"needs: {_needs(found)}"]
    lines += [f"changes: {changes}"] * bool(changes)
    lines += [f"train with it: semiseg train --method {found.name}", ""]
    return Group(Text("\n".join(lines)), table)


def _needs(found: Description) -> str:
    parts = ["labeled images", *(NEEDS.get(word, word) for word in found.needs)]
    return ", ".join([*parts, *(f"{NEEDS.get(word, word)} (with some settings)" for word in found.may_need)])
