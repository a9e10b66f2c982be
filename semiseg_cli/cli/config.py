"""`semiseg config`: a settings file to start from, and what settings apply in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import (
    complete_methods,
)
from semiseg_cli.cli.train import dataset_in, settings_and_origins, settings_text
from semiseg_cli.core.config import presets
from semiseg_cli.core.config.layers import DEFAULT_METHOD
from semiseg_cli.core.config.toml import settings_template
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.files import write_text

app = typer.Typer(no_args_is_help=True, help="A settings file to start from; what settings apply in the end.")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="where to write it")] = Path(presets.LOCAL),
    method: Annotated[
        str, typer.Option("--method", "-m", help="whose settings to include", autocompletion=complete_methods)
    ] = DEFAULT_METHOD,
    json: options.Json = False,
) -> None:
    """Write a settings file: every setting with its meaning and default, commented out, so that it changes nothing.

    `semiseg train` reads semiseg.toml in the working directory by itself, any other with --config FILE.
    """
    text = settings_template(method)
    if file.exists():
        raise UsageError(f"{file} exists already", why="nothing is overwritten", fix="semiseg config init another.toml")
    try:
        write_text(file, text)
    except OSError as error:
        raise UsageError(f"cannot write {file}", why=str(error), fix="choose another place") from error
    console.result("config init", {"file": str(file), "method": method}, f"{file}: every setting, commented out", json)


@app.command()
def show(
    method: options.Method = None,
    add: options.Add = None,
    backbone: options.Backbone = None,
    data: options.Data = None,
    labeled: options.Labeled = None,
    preset: options.Preset = "",
    config: options.ConfigFile = None,
    set_: options.Set = None,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Show the settings that `semiseg train` would take with these options, and where each comes from.

    Crop and size of images are chosen as on this machine, where the dataset is prepared.
    """
    named = {
        "method.name": method, "method.add": tuple(add) if add else None, "model.backbone": backbone,
        "data.name": data, "data.labeled": labeled,
    }  # fmt: skip
    flags = {name: value for name, value in named.items() if value is not None}

    absent = list[str]()

    def dataset(name: str) -> tuple[str, str]:
        try:
            return dataset_in(root)(name)
        except DataError as error:
            absent.append(name)
            without = "the preset is small unless -p names one, and crop and data.long_side suit no images yet"
            console.note(f"{error.what}: as it stands, {without}")
            return name, ""

    resolved = presets.gather(flags, set_ or [], dataset=dataset, config=config, preset=preset)
    if not absent:
        from semiseg_cli.stages.foresee import fitted

        resolved = fitted(resolved, root, note=console.note)
    console.result("config show", settings_and_origins(resolved), settings_text(resolved), json)
