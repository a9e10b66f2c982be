"""`semiseg predict`: label images with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.complete import complete_runs
from semiseg_cli.cli.options import HOW, OUTPUT
from semiseg_cli.core.errors import DataError, UsageError, few_lines
from semiseg_cli.core.finding import find_network


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CKPT|RUN] IMAGES|DATA",
            help="a run directory or a .safetensors file, by default the newest run; then image files, folders "
            "with all below them, and prepared datasets, in shards or not",
            autocompletion=complete_runs,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="where labels/ and overlays/ go", rich_help_panel=OUTPUT)
    ] = Path("predictions"),
    no_overlay: Annotated[
        bool, typer.Option("--no-overlay", help="index PNGs only, no tinted images", rich_help_panel=OUTPUT)
    ] = False,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence", help="the labels' probabilities as 16-bit PNGs (65535 is 1)", rich_help_panel=OUTPUT
        ),
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="of all classes as .npz: float16 (height, width, classes); large",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    format_: Annotated[
        Literal["coco", "labelme", "cvat", "yolo"] | None,
        typer.Option(
            "--format",
            help=options.AS_POLYGONS,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="PIXELS", help="simplify the polygons of --format; 0: they follow the pixels",
            show_default="1", rich_help_panel=OUTPUT,
        ),
    ] = None,
    window: options.Window = "auto",
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
    scales: options.Scales = "1",
    flip: options.Flip = False,
    device: Annotated[options.Where, options.device_option(HOW)] = "auto",
    gpus: Annotated[int, options.gpus_option(HOW)] = 1,
    root: options.Root = Path("data"),
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Label images: an index PNG and a tinted overlay for each, as large and as upright as the image is seen.

    A GeoTIFF gets its labels as a GeoTIFF besides. An image that cannot be read is left out, named at the end, and
    makes the exit code 3.
    """
    if tolerance is not None and not format_:
        fix = f"--format coco --tolerance {tolerance:g}"
        raise UsageError("--tolerance simplifies the polygons of --format", fix=fix)
    launch.on_gpus(gpus)
    console.state.quiet = quiet
    how = options.inference(window, scales, flip)
    from semiseg_cli.stages.predict import predict_images
    from semiseg_cli.stages.predicted_photos import network_and_images

    named, images = network_and_images(paths, root)
    found = predict_images(
        find_network(named, runs_root, console.note),
        images,
        how,
        out=out,
        overlay=not no_overlay,
        confidence=confidence,
        probabilities=probabilities,
        format=format_ or "",
        tolerance=1.0 if tolerance is None else tolerance,
        long_side=long_side,
        device=device,
        progress=console.progress,
        note=console.warn,
    )
    if not ranks.is_main():
        return
    console.result("predict", found, _summary(found), json)
    if failed := found["failed"]:
        raise DataError(
            f"{len(failed)} of {len(failed) + found['images']} images cannot be read",
            why=few_lines(failed),
            fix="repair, convert or remove them; the others are done",
        )


def _summary(found: dict[str, Any]) -> str:
    many = found["images"] != 1
    lines = [f"{found['images']} image{'s' * many} predicted: labels in {found['labels']}"]
    lines += [f"{what} in {found[what]}" for what in ("overlays", "confidence", "probabilities") if found[what]]
    if found["annotations"]:
        lines.append(f"labels as polygons in {found['annotations']}")
    if found["geotiff"]:
        lines.append(f"labels of GeoTIFFs, lying where they lie, in {found['geotiff']}")
    lines.append("  ".join(f"{index} {name}" for index, name in enumerate(found["classes"])))
    return "\n".join(lines)
