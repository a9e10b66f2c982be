"""The command line: `main` is the entry point, each command a file beside it that parses, calls one stage, prints.

Nothing imported here imports torch, numpy or OpenCV: `semiseg --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.completion import get_completion_inspect_parameters
from typer.core import TyperGroup

from semiseg_cli import __version__
from semiseg_cli.cli import (
    bench,
    check,
    compare,
    config,
    console,
    demo,
    doctor,
    eval,
    export,
    failure,
    methods,
    pair,
    pick,
    predict,
    prepare,
    presets,
    probe,
    ranks,
    report,
    runs,
    shard,
    split,
    train,
    viz,
)
from semiseg_cli.cli.given import Command

IN_USE = (
    "demo", "prepare", "shard", "check", "pick", "split", "pair", "probe", "train", "compare", "runs", "eval", "viz",
    "report", "predict", "export", "methods", "presets", "config", "bench", "doctor",
)  # fmt: skip


class Commands(TyperGroup):
    """Listed in the order of use: Typer would list commands of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=IN_USE.index)


app = typer.Typer(
    name="semiseg",
    cls=Commands,
    help="Semi-supervised semantic segmentation: prepare images, train, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(prepare.app, name="prepare")
app.command("shard")(shard.shard)
app.command("split")(split.split)
app.command("pair")(pair.pair)
app.command("check")(check.check)
app.command("pick")(pick.pick)
app.command("probe")(probe.probe)
app.command("train")(train.train)
app.command("compare")(compare.compare)
app.command("eval")(eval.eval_)
app.command("predict")(predict.predict)
app.command("viz")(viz.viz)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("runs")(runs.runs_)
app.command("bench")(bench.bench)
app.command("methods")(methods.methods)
app.command("presets")(presets.presets_)
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
for each in (app, prepare.app, config.app):
    for info in each.registered_commands:
        info.cls = Command


def _version(asked: bool) -> None:
    if asked:
        print(f"semiseg {__version__}")
        raise typer.Exit


@app.callback()
def semiseg(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SEMISEG_DEBUG", help="show the traceback of an error")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    console.state.debug = debug


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Warnings of this package in plain words; those of libraries with the line they come from."""
    ours = os.path.abspath(filename).startswith(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    console.warn(str(message) if ours else f"{category.__name__}: {message} ({filename}:{lineno})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (the program's by default) and return its exit code; errors are told, never raised."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch starts its threads: they must not spin
    ranks.adopt()
    console.state = console.State(sys.argv[1:] if arguments is None else list(arguments))
    warnings.showwarning = _warn
    get_completion_inspect_parameters()  # registers the shells whose scripts, in completions/, ask this program
    try:
        app(args=console.state.arguments, prog_name="semiseg")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        if code == 2:
            failure.usage()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return failure.report(error)
    return 0
