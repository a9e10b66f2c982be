"""`semiseg split`: draw a partition of a prepared dataset into labeled and unlabeled images, or list those drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.complete import complete_data
from semiseg_cli.core.errors import UsageError

HOW, DATA, OUTPUT = "How to draw", "Data", "Output"


def split(
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]", help="prepared dataset; by default the only one", autocompletion=complete_data
        ),
    ] = "",
    labeled: Annotated[
        str, typer.Option("--labeled", "-l", help="labeled images: 183, or a fraction like 1/8", rich_help_panel=HOW)
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="another seed, another draw", rich_help_panel=HOW)] = 0,
    balance: Annotated[
        str, typer.Option(help="classes (every class, rare ones first) or random", rich_help_panel=HOW)
    ] = "classes",
    list_: Annotated[bool, typer.Option("--list", help="show what has been drawn", rich_help_panel=OUTPUT)] = False,
    root: Annotated[
        Path, typer.Option(envvar="SEMISEG_DATA", help="folder of the prepared datasets", rich_help_panel=DATA)
    ] = Path("data"),
    json: Annotated[bool, typer.Option("--json", help="print one JSON document", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Draw a partition: which training images count as labeled. Their lists are written beside the dataset.

    `train --labeled 183` draws the same partition by itself; here it can be looked at and counted.
    """
    if list_ == bool(labeled):
        raise UsageError("split needs either --labeled or --list", fix="semiseg split --labeled 1/8")
    if list_:
        _list(root, data, json)
    else:
        _draw(root, data, labeled, seed, balance, json)


def _draw(root: Path, data: str, labeled: str, seed: int, balance: str, json: bool) -> None:
    from rich.console import Group
    from rich.table import Table

    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.split import make_split

    name = data or default_name(root)
    made = make_split(root, name, labeled, balance=balance, seed=seed)
    partition = made.partition
    table = Table("class", "images", "of", "pixels", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for count in made.counts:
        table.add_row(count.name, str(count.images), str(count.images_available), f"{count.pixels:,}")
    lines = (
        f"{name}: {partition.name}; {len(partition.unlabeled)} unlabeled",
        f"fingerprint {partition.fingerprint[:16]}, lists in {made.folder}",
    )
    result = {
        "data": name,
        "partition": partition.name,
        "fingerprint": partition.fingerprint,
        "folder": str(made.folder),
        "labeled": len(partition.labeled),
        "unlabeled": len(partition.unlabeled),
        "classes": {count.name: {"images": count.images, "pixels": count.pixels} for count in made.counts},
    }
    console.result("split", result, Group(*lines, table), json)
    for count in made.counts:
        if not count.images:
            console.warn(f"class '{count.name}' is in none of the labeled images")


def _list(root: Path, data: str, json: bool) -> None:
    from rich.table import Table

    from semiseg_cli.stages.split import list_splits

    found = list_splits(root, data)
    table = Table("data", "partition", "labeled", "unlabeled", "fingerprint", box=None, header_style="dim")
    rows = [
        {
            "data": name,
            "partition": split_name,
            "labeled": len(partition.labeled),
            "unlabeled": len(partition.unlabeled),
            "fingerprint": partition.fingerprint,
        }
        for name, split_name, partition in found
    ]
    for row in rows:
        table.add_row(*(str(row[key])[:24] for key in row))
    nothing = "no partition drawn yet (semiseg split --labeled 1/8)"
    console.result("split", rows, table if rows else nothing, json)
