"""What the shell offers where a dataset, a run or a checkpoint is asked for. Read from disk, without torch."""

from __future__ import annotations

from pathlib import Path

import typer

from semiseg_cli.core import runs
from semiseg_cli.core.commands import data_root, runs_root
from semiseg_cli.core.config.presets import presets
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.models import BACKBONES


def complete_methods() -> list[str]:
    return list(METHODS)


def complete_extras() -> list[str]:
    return list(PLUGINS)


def complete_backbones() -> list[str]:
    return list(BACKBONES)


def complete_presets() -> list[tuple[str, str]]:
    return list(presets().items())


def complete_data(ctx: typer.Context) -> list[str]:
    """The datasets prepared below --root, SEMISEG_DATA, or data."""
    from semiseg_cli.core.data.index import prepared

    return prepared(Path(ctx.params.get("root") or data_root()))


def complete_runs(ctx: typer.Context) -> list[str]:
    """Run directories, the newest first: those of SEMISEG_RUNS, else of runs. No match: the shell offers files."""
    return [str(run) for run in runs.list_runs(Path(ctx.params.get("runs_root") or runs_root()))]
