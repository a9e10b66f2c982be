"""`semiseg predict`: label images with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.complete import complete_runs
from semiseg_cli.cli.eval import fraction
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.options import Inference

HOW, OUTPUT = "How to predict", "Output"
NAMED = 20  # unreadable files that the error lists; --json has them all


def predict(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CKPT", help="a .safetensors file, or a run directory", autocompletion=complete_runs),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="files, and folders with all below them")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="where labels/ and overlays/ go", rich_help_panel=OUTPUT)
    ] = Path("predictions"),
    no_overlay: Annotated[
        bool, typer.Option("--no-overlay", help="index PNGs only, no tinted images", rich_help_panel=OUTPUT)
    ] = False,
    window: Annotated[
        str, typer.Option(help="auto (as trained), none (whole images) or a side in pixels", rich_help_panel=HOW)
    ] = "auto",
    long_side: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PIXELS",
            help="the network sees larger images reduced to this; 0: as they are",
            show_default="as its training images were",
            rich_help_panel=HOW,
        ),
    ] = None,
    scales: Annotated[str, typer.Option(help="average over sizes, such as 0.75,1,1.25", rich_help_panel=HOW)] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="average with the mirrored image", rich_help_panel=HOW)] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda", rich_help_panel=HOW)] = "auto",
    json: Annotated[bool, typer.Option("--json", help="print one JSON document", rich_help_panel=OUTPUT)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the result", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Label images: an index PNG and a tinted overlay for each, as large and as upright as the image is seen.

    An image that cannot be read is left out, named at the end, and makes the exit code 3.
    """
    console.state.quiet = quiet
    factors = tuple(fraction(part, "--scales 0.75,1,1.25") for part in scales.split(","))
    from semiseg_cli.stages.predict import predict_images

    found = predict_images(
        checkpoint,
        images,
        Inference(window=window, scales=factors, flip=flip),
        out=out,
        overlay=not no_overlay,
        long_side=long_side,
        device=device,
        progress=console.progress,
        note=console.warn,
    )
    console.result("predict", found, _summary(found), json)
    if failed := found["failed"]:
        more = [f"... and {len(failed) - NAMED} more"] * (len(failed) > NAMED)
        raise DataError(
            f"{len(failed)} of {len(failed) + found['images']} images cannot be read",
            why="\n".join([*failed[:NAMED], *more]),
            fix="repair, convert or remove them; the others are done",
        )


def _summary(found: dict[str, Any]) -> str:
    many = found["images"] != 1
    lines = [f"{found['images']} image{'s' * many} predicted: labels in {found['labels']}"]
    if found["overlays"]:
        lines.append(f"overlays in {found['overlays']}")
    lines.append("  ".join(f"{index} {name}" for index, name in enumerate(found["classes"])))
    return "\n".join(lines)
