"""Options and arguments that several commands have, and what is made of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli.complete import (
    complete_backbones,
    complete_data,
    complete_extras,
    complete_methods,
    complete_presets,
    complete_runs,
)
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.models import BACKBONES
from semiseg_cli.core.settings import DataConfig, doc

AS_POLYGONS = "the labels as polygons besides, for a tool to correct them in; needs semiseg\\[labels]"
TRAIN, HOW, DATA, OUTPUT = "What to train", "How to predict", "Data", "Output"  # panels of the help


def device_option(panel: str) -> Any:
    return typer.Option("--device", help="auto: CUDA if there is one", rich_help_panel=panel)


def gpus_option(panel: str) -> Any:
    said = "GPUs of this machine that share the work"
    return typer.Option("--gpus", min=1, metavar="N", help=said, rich_help_panel=panel)


Where = Literal["auto", "cpu", "cuda"]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="only the result", rich_help_panel=OUTPUT)]

# Where things are
Root = Annotated[
    Path, typer.Option("--root", envvar="SEMISEG_DATA", help="folder of the prepared datasets", rich_help_panel=DATA)
]
RunsData = Annotated[
    Path | None,
    typer.Option(
        "--root",
        show_default="SEMISEG_DATA or data; where the run has it",
        help="folder of the prepared datasets",
        rich_help_panel=DATA,
    ),
]
RunsRoot = Annotated[
    Path, typer.Option("--runs-root", envvar="SEMISEG_RUNS", help="folder of the runs", rich_help_panel=DATA)
]
Network = Annotated[
    Path | None,
    typer.Argument(
        metavar="CKPT|RUN",
        help="a run directory or a .safetensors file",
        show_default="the newest run",
        autocompletion=complete_runs,
    ),
]
DataArgument = Annotated[
    str,
    typer.Argument(metavar="DATA", help="prepared dataset; by default the only one", autocompletion=complete_data),
]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help=doc(DataConfig, "name"), autocompletion=complete_data, rich_help_panel=DATA),
]
Labeled = Annotated[str | None, typer.Option("--labeled", "-l", help=doc(DataConfig, "labeled"), rich_help_panel=DATA)]

# What to train
Method = Annotated[
    str | None,
    typer.Option("--method", "-m", help=" | ".join(METHODS), autocompletion=complete_methods, rich_help_panel=TRAIN),
]
Add = Annotated[
    list[str] | None,
    typer.Option(
        "--add",
        metavar="PLUG-IN",
        help=f"{' | '.join(PLUGINS)}: a loss on top of the method; repeatable",
        autocompletion=complete_extras,
        rich_help_panel=TRAIN,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        "-b",
        help=f"{' '.join(BACKBONES)}, or any of timm's as timm:NAME",
        autocompletion=complete_backbones,
        rich_help_panel=TRAIN,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        "-p",
        help="settings to start from; as typed, those of the dataset's kind, else small",
        autocompletion=complete_presets,
        rich_help_panel=TRAIN,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="a TOML file of settings, e.g. a run's config.toml",
        rich_help_panel=TRAIN,
    ),
]  # fmt: skip
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="NAME=VALUE", help="any setting, e.g. train.lr=5e-4; repeatable", rich_help_panel=TRAIN
    ),
]

# How to predict
Window = Annotated[
    str,
    typer.Option("--window", help="auto (as trained), none (whole images) or a side in pixels", rich_help_panel=HOW),
]
Stride = Annotated[
    str,
    typer.Option("--stride", help="step of the window as a fraction of its side, such as 2/3", rich_help_panel=HOW),
]
Batch = Annotated[
    int | None, typer.Option("--batch", help="images or windows of equal shape per forward", rich_help_panel=HOW)
]
Scales = Annotated[str, typer.Option("--scales", help="average over sizes, such as 0.75,1,1.25", rich_help_panel=HOW)]
Flip = Annotated[bool, typer.Option("--flip", help="average with the mirrored image", rich_help_panel=HOW)]


def inference(window: str, scales: str, flip: bool, stride: str = "", batch: int | None = None) -> Inference:
    """These options as one value. Raises UsageError for what no prediction can be made with."""
    factors = tuple(_fraction(part, "--scales 0.75,1,1.25") for part in scales.split(","))
    step = _fraction(stride, "--stride 2/3") if stride else None
    return Inference(window=window, stride=step, batch=batch, scales=factors, flip=flip)


def _fraction(text: str, example: str) -> float:
    """A number such as 0.75 or 2/3. `example` shows how the option is used."""
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{example.split()[0]}: {text!r} is not a number", fix=example) from None
