"""`semiseg train`: start a run, or go on with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.complete import (
    complete_runs,
)
from semiseg_cli.cli.options import OUTPUT, TRAIN
from semiseg_cli.cli.screen import Screen, cost_lines, duration, make_screen
from semiseg_cli.core.commands import command, data_root
from semiseg_cli.core.config import presets
from semiseg_cli.core.config.layers import Resolved, flatten, parse_set
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.files import resuming
from semiseg_cli.core.finding import NEWEST, find_network, find_run
from semiseg_cli.core.settings import ModelConfig, TrainConfig, doc

LENGTH = "Length and speed"


def train(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="with --resume: a run directory or a file in it",
            show_default="the newest unfinished run",
            autocompletion=complete_runs,
        ),
    ] = None,
    method: options.Method = None,
    add: options.Add = None,
    backbone: options.Backbone = None,
    weights: Annotated[
        str | None,
        typer.Option(help=f"{doc(ModelConfig, 'weights')}; a run, or newest: its network's", rich_help_panel=TRAIN),
    ] = None,
    preset: options.Preset = "",
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT|RUN", help="start from this network; newest: the newest run's",
            autocompletion=complete_runs, rich_help_panel=TRAIN,
        ),
    ] = None,
    config: options.ConfigFile = None,
    set_: options.Set = None,
    data: options.Data = None,
    labeled: options.Labeled = None,
    root: options.RunsData = None,
    steps: Annotated[int | None, typer.Option(help=doc(TrainConfig, "steps"), rich_help_panel=LENGTH)] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help=f"{doc(TrainConfig, 'batch')}; the preset's learning rate is scaled with it", rich_help_panel=LENGTH
        ),
    ] = None,
    gpus: Annotated[int, options.gpus_option(LENGTH)] = 1,
    device: Annotated[options.Where, options.device_option(LENGTH)] = "auto",
    seed: Annotated[int | None, typer.Option(help=doc(TrainConfig, "seed"), rich_help_panel=LENGTH)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="the run directory itself", rich_help_panel=OUTPUT)
    ] = None,
    runs_root: options.RunsRoot = Path("runs"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="go on exactly where RUN was interrupted; or, if it is finished, to more --steps",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    repeat: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", autocompletion=complete_runs, rich_help_panel=OUTPUT,
            help="repeat a run from its directory: same data, labels, settings and seed",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="show settings and their origins, run some steps, print the cost", rich_help_panel=OUTPUT
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network on a few labeled images and many unlabeled ones.

    With no options: the only prepared dataset, and all its labels.

    Interrupt it at any time: it saves, and `semiseg train --resume` goes on.

    A finished run goes on to N steps by --resume RUN --steps N, from there on with the learning rate of such a run.
    """
    console.state.quiet = quiet
    named = {
        "method.name": method, "method.add": tuple(add) if add else None, "model.backbone": backbone,
        "model.weights": weights, "data.name": data, "data.labeled": labeled, "train.steps": steps,
        "train.batch": batch, "train.seed": seed,
    }  # fmt: skip
    flags = {name: value for name, value in named.items() if value is not None}
    if run and not resume:
        raise UsageError(f"{run} is named without --resume", fix=resuming(run))
    for_new = {"--preset": preset, "--config": config, "--init": init, "--out": out, "--dry-run": dry_run}
    if resume and any(for_new.values()):
        given = " or ".join(name for name, value in for_new.items() if value)
        raise UsageError(f"--resume goes on with a run as it is, so it takes no {given}")
    if repeat:
        others: dict[str, Any] = {
            "RUN": run, "--resume": resume, "--preset": preset, "--config": config, "--init": init,
            "--dry-run": dry_run, "--set": set_, **{_option(name): True for name in flags},
        }  # fmt: skip
        if named_too := [name for name, value in others.items() if value]:
            fix = f"with other settings: {command('train', '-c', repeat / 'config.toml')} ..."
            raise UsageError(f"--from repeats a run as it was, so it takes no {' or '.join(named_too)}", fix=fix)
    launch.on_gpus(gpus)

    from semiseg_cli.stages.stopping import signals

    screen, say = make_screen(), console.note if ranks.is_main() else _unsaid
    if resume:
        run = find_run(run, "unfinished", runs_root, say)
        with signals(run, root):  # it takes a while: torch
            from semiseg_cli.stages.train import resume as go_on

        found = go_on(run, data_root=root, overrides=flags | parse_set(set_ or []), device=device, screen=screen)
        _answer(found, _summary(found, root), json)
        return

    if repeat:
        _repeat(find_run(repeat, "run", runs_root, say), root, runs_root, out, device, screen, json)
        return

    root = root or data_root()
    init = find_network(init, runs_root, say) if init else None
    if weights and (weights == NEWEST or Path(weights).is_dir()):
        flags["model.weights"] = str(find_network(Path(weights), runs_root, say))
    with signals():
        resolved = presets.gather(flags, set_ or [], dataset=dataset_in(root), config=config, preset=preset)
        if not (preset or backbone):
            say(_chosen(resolved))
        from semiseg_cli.stages.foresee import planned
        from semiseg_cli.stages.train import train as start

    if dry_run:
        console.note("a dry run: nothing is written or downloaded")
        resolved = planned(resolved, root, device)
        if not json and ranks.is_main():
            console.result("train", None, f"{settings_text(resolved)}\n", json=False)
    found = start(
        resolved, data_root=root, runs_root=runs_root, out=out, init=init, dry_run=dry_run, device=device, screen=screen
    )
    if dry_run:
        _answer({"settings": settings_and_origins(resolved), "cost": found}, _cost(found), json)
    else:
        _answer(found, _summary(found, root), json)


def _repeat(
    run: Path, root: Path | None, runs_root: Path, out: Path | None, device: str, screen: Screen, json: bool
) -> None:
    from semiseg_cli.stages.stopping import signals

    with signals():  # it takes a while: torch
        from semiseg_cli.stages.repeat import changed, repeated, same_weights
        from semiseg_cli.stages.train import train as start

        resolved, root, init = repeated(run, root)
    found = start(
        resolved, data_root=root, runs_root=runs_root, out=out, init=init, device=device, screen=screen
    )
    if not ranks.is_main():
        return
    again = Path(found["run"])
    same, others = same_weights(run, again), changed(run, again)
    line = f"the same weights as {run}, to the bit" if same else f"other weights than {run}"
    if same is None:
        line = f"{run} is not at its end, so the weights are not compared"
    text = "\n".join([_summary(found, root), line, *(f"  {other}" for other in others)])
    _answer(found | {"repeats": str(run), "same_weights": same, "changed": others}, text, json)


def _option(setting: str) -> str:
    """The option that was typed for a setting."""
    return {"method.name": "--method", "method.add": "--add"}.get(setting, f"--{setting.partition('.')[2]}")


def dataset_in(root: Path) -> Callable[[str], tuple[str, str]]:
    """Name and kind of a dataset as typed ("" for none) below `root`, for `presets.gather`."""

    def named(name: str) -> tuple[str, str]:
        from semiseg_cli.core.data.index import default_name, load_dataset

        name = name or default_name(root)
        return name, load_dataset(root, name).kind

    return named


def _chosen(resolved: Resolved) -> str:
    """What was chosen where neither a preset nor an encoder was typed, and for what it is meant."""
    origin, encoder = resolved.origins["model.backbone"], resolved.config.model.backbone
    if not origin.startswith("preset "):
        return f"encoder {encoder}, from {origin}"
    meant = presets.presets()[origin.removeprefix("preset ")].split(": ")[0].rstrip(".")
    return f"{origin} and its encoder {encoder}, as none was typed; it is for: {meant[0].lower()}{meant[1:]}"


def _unsaid(text: str) -> None:
    """Another process says it."""


def _answer(result: dict[str, Any], text: str, json: bool) -> None:
    if ranks.is_main():
        console.result("train", result, text, json)


def _summary(found: dict[str, Any], root: Path | None) -> str:
    """The end of a run in words; `found` is the stage's result, `root` the data root as given."""
    run, last, best = found["run"], found["last"], found["best"]
    lines = [f"{run}: {found['method']}, {found['steps']} steps in {duration(found['seconds'])}, {found['partition']}"]
    if last and best:
        by = "" if found.get("best_by", "miou") == "miou" else f" by {found['best_by']}"
        lines.append(f"mIoU {last['miou']:.2f} at the last step, best{by} {best['miou']:.2f} at step {best['step']}")
        lines.append(f"next: {command('eval', run, root=root)}")
    if found.get("report"):
        lines.append(f"report: {found['report']}")
    return "\n".join(lines)


def settings_and_origins(resolved: Resolved) -> dict[str, Any]:
    """Every setting by its name: its value, and the layer it came from."""
    flat = flatten(resolved.config)
    return {name: {"value": value, "from": resolved.origins[name]} for name, value in flat.items()}


def settings_text(resolved: Resolved) -> str:
    """The same as aligned lines."""
    rows = [(name, str(value), resolved.origins[name]) for name, value in flatten(resolved.config).items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for name, value, origin in rows)


def _cost(found: dict[str, Any]) -> str:
    what = f"{found['partition']}: {found['labeled']} labeled and {found['unlabeled']} unlabeled images"
    return "\n".join([f"{what}, on {found['device']}", *cost_lines(found)])
