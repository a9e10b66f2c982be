"""`semiseg presets`: the sets of settings a run can start from."""

from __future__ import annotations

from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import complete_presets
from semiseg_cli.core.config.presets import preset_text, presets


def presets_(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="show this preset's file", autocompletion=complete_presets)
    ] = "",
    json: options.Json = False,
) -> None:
    """List the presets; with NAME: what is in it. `train -p NAME` takes one."""
    if name:
        text = preset_text(name).rstrip("\n")
        console.result("presets", {"name": name, "toml": text}, text, json)
        return
    from rich.table import Table
    from rich.text import Text

    found = presets()
    table = Table("preset", "what for", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for each, description in found.items():
        table.add_row(each, Text(description))
    console.result("presets", found, table, json)
