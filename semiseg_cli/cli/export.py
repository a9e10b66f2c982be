"""`semiseg export`: a trained network as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.complete import complete_runs


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CKPT", help="a run directory, or a .safetensors file", autocompletion=complete_runs),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="a .safetensors file or a folder", show_default="named after the run"
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="weights as float16: half the size")] = False,
    json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Write the network alone as safetensors, and a model card beside it: data, labels, method, paper, mIoU, licence.

    In Python: from semiseg_cli import load; labels = load("model.safetensors")(image)
    """
    from semiseg_cli.stages.export import export_network

    found = export_network(checkpoint, out, half=half)
    text = f"{found['file']}, {found['bytes'] / 2**20:.1f} MiB, from {found['checkpoint']}\nmodel card: {found['card']}"
    console.result("export", found, text, json)
