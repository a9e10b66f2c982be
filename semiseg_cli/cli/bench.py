"""`semiseg bench`: what training costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import (
    complete_data,
)
from semiseg_cli.cli.options import DATA
from semiseg_cli.core.config import presets
from semiseg_cli.core.settings import TrainConfig, doc

if TYPE_CHECKING:
    from rich.table import Table

WHAT = "What to measure"
PARTS = {
    "data": "data (decode, warp)",
    "forward": "forward (with views)",
    "backward": "backward",
    "optimiser": "optimiser",
    "after_step": "after step (EMA)",
}


def bench(
    method: options.Method = None,
    add: options.Add = None,
    backbone: options.Backbone = None,
    crop: Annotated[int | None, typer.Option(help=doc(TrainConfig, "crop"), rich_help_panel=WHAT)] = None,
    batch: Annotated[int | None, typer.Option(help=doc(TrainConfig, "batch"), rich_help_panel=WHAT)] = None,
    steps: Annotated[int, typer.Option(help="steps to measure, twice: whole and by part", rich_help_panel=WHAT)] = 10,
    preset: options.Preset = "",
    set_: options.Set = None,
    device: Annotated[options.Where, options.device_option(WHAT)] = "auto",
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="prepared dataset; by default photos made for it",
            autocompletion=complete_data,
            rich_help_panel=DATA,
        ),
    ] = "",
    labeled: options.Labeled = None,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Measure a training step: images/s, time by part, memory, GFLOP, and decoding per core.

    It needs no data and writes nothing. Images are decoded every time, as in the first pass over a dataset; or, with
    -s data.cache=device, before the first step, and "forward" includes their warp on the device.
    """
    named = {
        "method.name": method, "method.add": tuple(add) if add else None, "model.backbone": backbone,
        "train.crop": crop, "train.batch": batch, "data.labeled": labeled,
    }  # fmt: skip
    flags = {name: value for name, value in named.items() if value is not None}
    fixed = {"data.name": data or "synthetic", "model.weights": "none", "train.cache_mb": 0}

    def dataset(name: str) -> tuple[str, str]:
        if not data:
            return name, "folder"
        from semiseg_cli.core.data.index import load_dataset

        return name, load_dataset(root, name).kind

    resolved = presets.gather(fixed | flags, set_ or [], dataset=dataset, preset=preset)
    from semiseg_cli.stages.bench import bench as run

    found = run(resolved, data_root=root if data else None, steps=steps, device=device, note=console.note)
    console.result("bench", found, _table(found), json)


def _table(found: dict[str, Any]) -> list[str | Table]:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("part", "ms a step", "min", "max"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, name in PARTS.items():
        table.add_row(name, *_times(found["parts"][part]))
    table.add_section()
    table.add_row("whole step", *_times(found["step"]), style="bold")
    host = found["host"]
    lines = (
        f"{found['images_per_second']:.1f} images/s, {found['gflop_per_step']:.1f} GFLOP a step, "
        f"{found['peak_memory_bytes'] / 2**30:.2f} GiB at most, on {found['device']}",
        f"{host['image']} to crop {found['crop']} on one core: {host['sample_ms']['median']:.2f} ms an image "
        f"(decode {host['decode_ms']['median']:.2f}, {host['decodes_per_second']:.0f}/s; "
        f"warp {host['warp_ms']['median']:.2f}, {host['warps_per_second']:.0f}/s)",
    )
    return [table, *lines]


def _times(spread: dict[str, float]) -> list[str]:
    return [f"{spread[key]:.1f}" for key in ("median", "min", "max")]
