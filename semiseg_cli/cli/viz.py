"""`semiseg viz`: look at what a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import DATA, OUTPUT
from semiseg_cli.core.errors import UsageError, counted
from semiseg_cli.core.finding import find

WHAT = "What to show"
NEEDS = {"masks": "network", "errors": "network", "features": "network", "pairs": "run"}  # others: a run's state


def viz(
    source: options.Network = None,
    pseudo: Annotated[
        bool,
        typer.Option(
            "--pseudo", help="pseudo-labels, confidence, kept pixels (when nothing is chosen)", rich_help_panel=WHAT
        ),
    ] = False,
    masks: Annotated[
        bool, typer.Option("--masks", help="predictions beside the ground truth", rich_help_panel=WHAT)
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="the worst validation images first", rich_help_panel=WHAT)
    ] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="weak and strong views with their labels", rich_help_panel=WHAT)
    ] = False,
    reconstruction: Annotated[
        bool, typer.Option("--reconstruction", help="s4mim: masked images and what it restores", rich_help_panel=WHAT)
    ] = False,
    features: Annotated[
        bool, typer.Option("--features", help="the network's features by class (t-SNE)", rich_help_panel=WHAT)
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="unlabeled images and their nearest labeled ones", rich_help_panel=WHAT),
    ] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="guidedmix: mixtures and decoupled pseudo-masks", rich_help_panel=WHAT)
    ] = False,
    count: Annotated[int, typer.Option("--n", help="images", rich_help_panel=WHAT)] = 12,
    seed: Annotated[int, typer.Option(min=0, help="another seed, other images", rich_help_panel=WHAT)] = 0,
    root: options.RunsData = None,
    runs_root: options.RunsRoot = Path("runs"),
    device: Annotated[options.Where, options.device_option(DATA)] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="folder; samples/ in the run", rich_help_panel=OUTPUT),
    ] = None,
    json: options.Json = False,
) -> None:
    """Draw what a run does: PNG sheets, and one HTML page that holds them all.

    With no arguments: the newest run's pseudo-labels. Several kinds come into one page, pictures.html.
    """
    chosen = {
        "pseudo": pseudo, "masks": masks, "errors": errors, "augment": augment, "reconstruction": reconstruction,
        "features": features, "pairs": pairs, "mix": mix,
    }  # fmt: skip
    asked = [name for name, flag in chosen.items() if flag] or ["pseudo"]
    if seed and asked == ["errors"]:
        what = "the worst images are the same with any --seed: --errors draws none"
        raise UsageError(what, fix="without --seed, or --masks --seed (images drawn from all)")
    needs = {NEEDS.get(name, "state") for name in asked}
    wanted = next(each for each in ("state", "network", "run") if each in needs)  # a run with a state has the others
    source = find(source, wanted, runs_root, console.note)
    from semiseg_cli.stages.visualize import visualize

    found = visualize(
        source, asked if len(asked) > 1 else asked[0],
        root=root, count=count, seed=seed, out=out, device=device, progress=console.progress,
    )
    shown = f"{counted(len(found['images']), 'image')} of {source}"
    console.result("viz", found, "\n".join([shown, *found["sheets"], found["page"]]), json)
