"""`semiseg probe`: a usable network in minutes, from a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.options import DATA, OUTPUT, TRAIN
from semiseg_cli.cli.screen import Screen, duration
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import counted
from semiseg_cli.core.partitions import WAYS
from semiseg_cli.core.settings import DataConfig, ModelConfig, TrainConfig, doc

CHOSEN = (
    "encoder efficientnet_lite0, as none was typed: of what was measured the best with few labels, and the fastest "
    '(RESULTS.md, "A probe"); -b takes another, such as dinov2_s'
)


def probe(
    data: options.DataArgument = "",
    labeled: options.Labeled = None,
    balance: Annotated[
        str | None,
        typer.Option(help=doc(DataConfig, "balance"), autocompletion=lambda: list(WAYS), rich_help_panel=DATA),
    ] = None,
    backbone: options.Backbone = None,
    weights: Annotated[str | None, typer.Option(help=doc(ModelConfig, "weights"), rich_help_panel=TRAIN)] = None,
    head: Annotated[
        Literal["linear", "mlp"], typer.Option(help="mlp: with a hidden layer of 64", rich_help_panel=TRAIN)
    ] = "mlp",
    side: Annotated[
        int | None,
        typer.Option(
            "--side", min=32, metavar="PIXELS", show_default="728", rich_help_panel=TRAIN,
            help="larger images are shown reduced to this long side: finer is better and slower",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, show_default="300", help="of the head", rich_help_panel=TRAIN)
    ] = None,
    class_weights: Annotated[
        Literal["none", "sqrt", "inverse"],
        typer.Option("--class-weights", help=doc(TrainConfig, "class_weights"), rich_help_panel=TRAIN),
    ] = "sqrt",
    device: Annotated[options.Where, options.device_option(TRAIN)] = "auto",
    gpus: Annotated[int, options.gpus_option(TRAIN)] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help=doc(TrainConfig, "seed"), rich_help_panel=TRAIN)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="the run directory itself", rich_help_panel=OUTPUT)
    ] = None,
    root: options.Root = Path("data"),
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a small head on the features of a pretrained encoder: minutes on a laptop, from a handful of labels.

    The features of the labeled images are computed once and kept beside the dataset: another seed, head or partition
    uses them again, and an interrupted command goes on. What it makes is a run like any other: `eval`, `predict`,
    `viz`, `export` and `train --init` take it. Of semiseg.toml it reads what [data] says.
    """
    launch.on_gpus(gpus)
    console.state.quiet = quiet
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.probe import probe as start
    from semiseg_cli.stages.probe import settings_of

    named = {
        "data.name": data or None, "data.labeled": labeled, "data.balance": balance,
        "model.backbone": backbone, "model.weights": weights, "model.decoder": head, "data.long_side": side,
        "train.steps": steps, "train.class_weights": class_weights, "train.seed": seed,
    }  # fmt: skip
    flags = {name: value for name, value in named.items() if value is not None}
    if not settings_of(flags).config.data.name:
        flags["data.name"] = default_name(root)
    if backbone is None:
        console.note(CHOSEN)
    found = start(
        settings_of(flags),
        data_root=root,
        runs_root=runs_root,
        out=out,
        device=device,
        progress=Screen().progress,
        note=console.note,
    )
    if not ranks.is_main():
        return
    console.result("probe", found, _summary(found), json)


def _summary(found: dict[str, Any]) -> str:
    features, last = found["features"], found["last"]
    took = f"features of {counted(features['computed'], 'image')} in {duration(features['seconds'])}"
    lines = [
        f"{found['run']}: {found['head']} on {found['encoder']}, {found['partition']}",
        f"{took}, the head in {duration(found['head_seconds'])}",
    ]
    if last:
        lines.append(f"mIoU {last['miou']:.2f} on {counted(found['images'], 'validation image')}")
    lines.append(f"next: {command('predict', found['run'], 'photos')}")
    return "\n".join(lines)
