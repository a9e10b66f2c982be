"""`semiseg export`: a trained network as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import OUTPUT
from semiseg_cli.core.finding import find_network


def export(
    checkpoint: options.Network = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="a .safetensors file or a folder", show_default="named after the run",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="weights as float16: half the size", rich_help_panel=OUTPUT)
    ] = False,
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
) -> None:
    """Write the network alone as safetensors, and a model card beside it: data, labels, method, paper, mIoU, licence.

    In Python: from semiseg_cli import load; labels = load("model.safetensors")(image)
    """
    path = find_network(checkpoint, runs_root, console.note)
    from semiseg_cli.stages.export import export_network

    found = export_network(path, out, half=half)
    text = f"{found['file']}, {found['bytes'] / 2**20:.1f} MiB, from {found['checkpoint']}\nmodel card: {found['card']}"
    text += f"\nencoder: {found['encoder']}"
    console.result("export", found, text, json)
