"""`semiseg export`: a trained network as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import OUTPUT
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.finding import find_network


def export(
    checkpoint: options.Network = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="a file or a folder", show_default="named after the run",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="weights as float16: half the size", rich_help_panel=OUTPUT)
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="as ONNX, for images of any size, and tried", rich_help_panel=OUTPUT)
    ] = False,
    pt2: Annotated[
        bool, typer.Option("--pt2", help="as a program of torch.export, for images of any size", rich_help_panel=OUTPUT)
    ] = False,
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
) -> None:
    """Write the network alone as safetensors, and a model card beside it: data, labels, method, paper, mIoU, licence.

    In Python, `semiseg_cli.load("model.safetensors")(image)` gives the labels.

    With --onnx or --pt2 it is a graph that needs nothing of semiseg: uint8 images in, labels and probabilities out. The
    card holds the lines of Python from a photo to labels.
    """
    if onnx and pt2:
        raise UsageError("--onnx and --pt2 are two kinds of file", fix="one after the other")
    path = find_network(checkpoint, runs_root, console.note)
    from semiseg_cli.stages.export import export_network

    format = "onnx" if onnx else "pt2" if pt2 else "safetensors"
    if format != "safetensors":
        console.note("tracing the network: this takes a minute")
    found = export_network(path, out, format=format, half=half)
    text = f"{found['file']}, {found['bytes'] / 2**20:.1f} MiB, from {found['checkpoint']}\nmodel card: {found['card']}"
    if found["largest_difference"] is not None:
        text += f"\ntried on images of other sizes: probabilities differ by {found['largest_difference']:.1g} at most"
    text += f"\nencoder: {found['encoder']}"
    console.result("export", found, text, json)
