"""`semiseg report`: a run, or several side by side, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import complete_runs
from semiseg_cli.cli.options import DATA, OUTPUT
from semiseg_cli.core.finding import find, find_run


def report(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="runs, or a folder of them, such as a comparison's",
            show_default="the newest run",
            autocompletion=complete_runs,
        ),
    ] = None,
    root: options.RunsData = None,
    runs_root: options.RunsRoot = Path("runs"),
    device: Annotated[options.Where, options.device_option(DATA)] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="the page; report.html with the run or runs", rich_help_panel=OUTPUT
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Put all that a run tells into one HTML page: curves, classes, worst images, settings, data, cost, environment.

    Of several runs, or of the folder of a comparison: their table, their curves side by side, and where they differ.

    The page needs no network and no program but a browser. A run that ends has one already.
    """
    asked: list[Path | None] = list(sources) if sources else [None]
    named = [find(source, "run", runs_root, console.note) for source in asked]
    named = [find_run(source, "run", runs_root) if source.is_file() else source for source in named]
    from semiseg_cli.stages.report import report as make

    found = make(named, out=out, root=root, device=device, progress=console.progress, note=console.note)
    console.result("report", found, found["page"], json)
