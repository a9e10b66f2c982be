"""`semiseg pair`: find the labeled images most like each unlabeled one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.options import DATA
from semiseg_cli.core.errors import counted
from semiseg_cli.core.partitions import WAYS
from semiseg_cli.core.settings import DataConfig, ModelConfig, doc

HOW = "How to compare"


def pair(
    data: options.DataArgument = "",
    labeled: options.Labeled = None,
    balance: Annotated[
        str, typer.Option(help=doc(DataConfig, "balance"), autocompletion=lambda: list(WAYS), rich_help_panel=DATA)
    ] = "classes",
    seed: Annotated[int, typer.Option(min=0, help="seed of an own partition", rich_help_panel=DATA)] = 0,
    encoder: Annotated[
        str, typer.Option(metavar="NAME|CKPT", help="a backbone, or a checkpoint or run", rich_help_panel=HOW)
    ] = "resnet50",
    weights: Annotated[str, typer.Option(help=doc(ModelConfig, "weights"), rich_help_panel=HOW)] = "auto",
    k: Annotated[
        int | None,
        typer.Option("--k", help="neighbours of an image; 8, or all where they are fewer", rich_help_panel=HOW),
    ] = None,
    cosine: Annotated[
        bool, typer.Option("--cosine", help="distance of features scaled to length 1", rich_help_panel=HOW)
    ] = False,
    device: Annotated[options.Where, options.device_option(HOW)] = "auto",
    gpus: Annotated[int, options.gpus_option(HOW)] = 1,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Find the labeled images most like each unlabeled one, by an encoder's pooled features.

    Writes a pairs file and a contact sheet beside the dataset; `train` finds the file by itself. What has been computed
    is kept: a second run is immediate, an interrupted one goes on, another split uses the features again.
    """
    launch.on_gpus(gpus)
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.pair import pair as find

    found = find(
        root,
        data or default_name(root),
        labeled or "",
        balance=balance,
        seed=seed,
        encoder=encoder,
        weights=weights,
        k=k,
        cosine=cosine,
        device=device,
        progress=console.progress,
        note=console.note,
    )
    if not ranks.is_main():
        return
    done = "found before" if found["cached"] else f"{counted(found['encoded'], 'image')} encoded"
    lines = (
        f"{found['data']}: the {found['k']} nearest of {found['labeled']} labeled images for each of "
        f"{found['unlabeled']} unlabeled ones",
        f"{done}; {found['metric']} distance of the nearest {found['mean_distance']:.3f} on average",
        found["pairs"], *found["sheets"], found["page"],
    )  # fmt: skip
    console.result("pair", found, "\n".join(lines), json)
