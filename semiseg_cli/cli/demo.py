"""`semiseg demo`: see the tool work before reading about it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.screen import duration, make_screen


def demo(
    folder: Annotated[Path, typer.Option("--dir", help="where data and runs are written")] = Path("semiseg-demo"),
    seed: Annotated[int, typer.Option(help="of images, labels and training")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if there is one")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the result")] = False,
) -> None:
    """Make a small dataset, train with and without its unlabeled images, compare. Two minutes, no download."""
    console.state.quiet = quiet
    from semiseg_cli.stages.demo import demo as run

    found = run(folder, seed=seed, device=device, make_screen=make_screen)
    console.result("demo", found, _table(found, folder), json)


def _table(found: dict[str, Any], folder: Path) -> Any:
    from rich.console import Group
    from rich.table import Table

    data = f"{found['labeled']} labeled + {found['unlabeled']} unlabeled"
    table = Table(title=f"mIoU on {found['images']} images, {data}")
    table.add_column("method")
    for name in ("mIoU", *found["rows"][0]["iou"]):
        table.add_column(name, justify="right")
    table.add_column("time", justify="right")
    for row in found["rows"]:
        cells = ["-" if value is None else f"{value:.1f}" for value in row["iou"].values()]
        table.add_row(row["method"], f"{row['miou']:.1f}", *cells, duration(row["seconds"]))
    last = shlex.quote(found["rows"][-1]["run"])
    root = shlex.quote(str(folder / "data"))
    lines = (
        f"UniMatch gains {found['gain']:+.1f} points from the unlabeled images ({duration(found['seconds'])} in all; "
        "one seed: RESULTS.md shows the spread).",
        f"look: {' '.join(shlex.quote(picture) for picture in found['pictures'])}",
        "next, the same on your own photos, with masks for a few of them:",
        "  semiseg prepare folder --labeled photos --masks masks --unlabeled more --classes classes.txt --name mine "
        "--long-side 241",
        "  semiseg train -d mine",
        f"or look closer: semiseg eval {last} --root {root}",
        f"                semiseg viz {last} --root {root} --errors",
    )
    return Group(table, *lines)
