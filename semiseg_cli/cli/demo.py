"""`semiseg demo`: see the tool work before reading about it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import OUTPUT
from semiseg_cli.cli.screen import duration, make_screen
from semiseg_cli.core.commands import command

if TYPE_CHECKING:
    from rich.table import Table


def demo(
    folder: Annotated[Path, typer.Option("--dir", help="where data and runs are written")] = Path("semiseg-demo"),
    seed: Annotated[int, typer.Option(help="of images, labels and training")] = 0,
    device: Annotated[options.Where, options.device_option(OUTPUT)] = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a small dataset, train with and without its unlabeled images, compare. Minutes, no download."""
    console.state.quiet = quiet
    from semiseg_cli.stages.demo import demo as run

    found = run(folder, seed=seed, device=device, make_screen=make_screen)
    console.result("demo", found, _text(found, folder), json)


def _text(found: dict[str, Any], folder: Path) -> list[str | Table]:
    from rich.table import Table

    rows = found["rows"]
    table = Table("IoU %", *(row["method"] for row in rows), box=None, header_style="dim", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in rows[0]["iou"]:
        table.add_row(name, *("-" if (value := row["iou"][name]) is None else f"{value:.1f}" for row in rows))
    table.add_row("mean", *(f"{row['miou']:.1f}" for row in rows), style="bold")
    table.add_row("time", *(duration(row["seconds"]) for row in rows))
    last, root = rows[-1]["run"], folder / "data"
    lines = (
        "",
        f"UniMatch gains {found['gain']:+z.1f} points from the unlabeled images ({duration(found['seconds'])} in all; "
        "one seed: RESULTS.md shows the spread).",
        "look at:",
        *(f"  {shlex.quote(picture)}" for picture in (found["report"], *found["pictures"]) if picture),
        "or closer:",
        f"  {command('eval', last, root=root)}",
        f"  {command('viz', last, '--errors', root=root)}",
        "next, the same on your own photos, with masks for a few of them:",
        "  semiseg prepare folder --labeled photos --masks masks --unlabeled more --classes classes.txt --name mine "
        "--long-side 241",
        "  semiseg train -d mine",
    )
    data = f"{found['labeled']} labeled + {found['unlabeled']} unlabeled"
    return [f"on {found['images']} images, {data}", table, *lines]
