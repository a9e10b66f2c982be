"""`semiseg eval`: measure a checkpoint on its dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.complete import complete_data
from semiseg_cli.cli.options import DATA, HOW, OUTPUT
from semiseg_cli.core.errors import CheckFailed, counted
from semiseg_cli.core.finding import find_network
from semiseg_cli.core.inference.metrics import HEADLINE, METRICS, Asked

if TYPE_CHECKING:
    from rich.table import Table

WHAT = "What to measure"


def eval_(
    checkpoint: options.Network = None,
    split: Annotated[str, typer.Option(help="val, or train (those with a mask)", rich_help_panel=DATA)] = "val",
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="another prepared dataset with the same classes",
            autocompletion=complete_data,
            rich_help_panel=DATA,
        ),
    ] = "",
    root: options.RunsData = None,
    runs_root: options.RunsRoot = Path("runs"),
    window: options.Window = "auto",
    stride: options.Stride = "",
    batch: options.Batch = None,
    scales: options.Scales = "1",
    flip: options.Flip = False,
    device: Annotated[options.Where, options.device_option(HOW)] = "auto",
    gpus: Annotated[int, options.gpus_option(HOW)] = 1,
    boundary: Annotated[bool, typer.Option("--boundary", help="also boundary F-score", rich_help_panel=WHAT)] = False,
    absent_as_zero: Annotated[
        bool,
        typer.Option(
            "--absent-as-zero", help="mIoU: a class neither labeled nor predicted counts 0", rich_help_panel=WHAT
        ),
    ] = False,
    absent_as_one: Annotated[
        bool,
        typer.Option(
            "--absent-as-one",
            help="boundary F-score: a class neither in an image's labels nor its prediction counts 1, as published",
            rich_help_panel=WHAT,
        ),
    ] = False,
    by_frequency: Annotated[
        bool,
        typer.Option(
            "--by-frequency", help="classes by their pixels; means of frequent and rare ones", rich_help_panel=WHAT
        ),
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the predictions as index PNGs", rich_help_panel=OUTPUT)
    ] = None,
    require_miou: Annotated[
        float | None, typer.Option(metavar="X", help="exit with 7 when the mIoU is below", rich_help_panel=OUTPUT)
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure a checkpoint: IoU of every class, mIoU and pixel accuracy.

    The checkpoint names its dataset, classes and window; a run directory stands for its best network. With no
    arguments: the newest run.
    """
    launch.on_gpus(gpus)
    how = options.inference(window, scales, flip, stride, batch)
    asked = Asked(boundary, absent_as_zero, absent_as_one)
    path = find_network(checkpoint, runs_root, console.note)
    from semiseg_cli.stages.evaluate import evaluate_checkpoint

    found = evaluate_checkpoint(
        path, how, root=root, data=data, split=split, asked=asked, save=save, device=device, progress=console.progress
    )
    if not ranks.is_main():
        return
    console.result("eval", found, _table(found, by_frequency), json)
    if save is not None:
        console.note(f"predictions are in {save}")
    if require_miou is not None and found["miou"] < require_miou:
        raise CheckFailed(f"mIoU {found['miou']:.2f} is below the required {require_miou:g}")


def _table(found: dict[str, Any], by_frequency: bool) -> list[str | Table]:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    table.add_column("class")
    columns = [metric for metric in METRICS if metric.by_class and found[metric.name] is not None]
    for metric in columns:
        table.add_column(f"{metric.title} %", justify="right")
    names, shares = list(found["frequency"]), found["frequency"]
    if by_frequency:
        table.add_column("pixels %", justify="right")
        names.sort(key=lambda name: -float(shares[name]))
    for name in names:
        share = [f"{shares[name]:.2f}"] if by_frequency else []
        table.add_row(Text(name), *(console.percent(found[metric.name][name]) for metric in columns), *share)
    table.add_section()
    for half, which in (("head", "most frequent"), ("tail", "rarest")) if by_frequency else ():
        part = found["by_frequency"][half]
        table.add_row(f"{half}: the {len(part['classes'])} {which}", console.percent(part["miou"]))
    for metric in METRICS:
        if not metric.by_class and found[metric.name] is not None:
            table.add_row(metric.title, console.percent(found[metric.name]), style="bold" if metric is HEADLINE else "")
    return [table, _what(found)]


def _what(found: dict[str, Any]) -> str:
    window = f"windows of {found['window']} px" if found["window"] else "whole images"
    return (
        f"{counted(found['images'], 'image')} of {found['data']} {found['split']}, {window}\n"
        f"{found['checkpoint']}: {found['method']}, step {found['step']}, {found['partition']}"
    )
