"""`semiseg pick`: which photos to label next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli import console, launch, options, ranks
from semiseg_cli.cli.complete import complete_data, complete_runs
from semiseg_cli.cli.options import DATA, OUTPUT
from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import updating
from semiseg_cli.core.errors import DataError, counted, few_lines
from semiseg_cli.core.finding import find_network
from semiseg_cli.core.settings import ModelConfig, doc

HOW = "How to choose"
DRAWN = (
    "annotations of LabelMe, CVAT, COCO, YOLO or Label Studio; or index PNGs named as the photos are, and "
    "--classes FILE, a class name per line"
)


def pick(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA|FOLDER", show_default="the only prepared dataset", autocompletion=complete_data,
            help="a prepared dataset, of which the images without a mask are chosen from, or a folder of photos",
        ),
    ] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="photos to label", rich_help_panel=HOW)] = 20,
    labeled: Annotated[
        str,
        typer.Option(
            "--labeled", "-l", metavar="N|LIST", show_default="all with a mask", rich_help_panel=DATA,
            help="which images of a dataset count as labeled, as for train",
        ),
    ] = "",
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="RUN", autocompletion=complete_runs, rich_help_panel=HOW,
            help="a run, a .safetensors file, or newest: photos that its network is unsure about weigh more",
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="NAME|CKPT", help="a backbone, or a checkpoint or run", rich_help_panel=HOW)
    ] = "efficientnet_lite0",
    weights: Annotated[str, typer.Option(help=doc(ModelConfig, "weights"), rich_help_panel=HOW)] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="of the clusters", rich_help_panel=HOW)] = 0,
    device: Annotated[options.Where, options.device_option(HOW)] = "auto",
    gpus: Annotated[int, options.gpus_option(HOW)] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", show_default="picked, or picked-2, ...", rich_help_panel=OUTPUT,
            help="a new folder for the list, the photos and the sheet",
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="copies of the photos, not links to them", rich_help_panel=OUTPUT)
    ] = False,
    prelabel: Annotated[
        bool, typer.Option("--prelabel", help="the masks of --run's network, to correct", rich_help_panel=OUTPUT)
    ] = False,
    format_: Annotated[
        Literal["coco", "labelme", "cvat", "yolo"] | None,
        typer.Option(
            "--format", help=options.AS_POLYGONS, rich_help_panel=OUTPUT
        ),
    ] = None,
    root: options.Root = Path("data"),
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose photos to label next: some that stand for all others, and resemble none that is labeled.

    Writes their list in the order in which they help most, links to them, and a sheet that shows each beside photos
    that it stands for. Near-duplicates count as one photo. The same seed chooses the same. A photo of a folder that
    cannot be read is left out, named at the end, and makes the exit code 3.
    """
    launch.on_gpus(gpus)
    console.state.quiet = quiet
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.pick import pick as choose

    found = choose(
        source or default_name(root),
        count,
        root=root,
        labeled=labeled,
        encoder=encoder,
        weights=weights,
        network=find_network(run, runs_root, console.note) if run else None,
        prelabel=prelabel,
        format=format_ or "",
        copy=copy,
        seed=seed,
        out=out,
        device=device,
        progress=console.progress,
        note=console.note,
    )
    if not ranks.is_main():
        return
    console.result("pick", found, _summary(found, root), json)
    if failed := found["unreadable"]:
        raise DataError(
            f"{len(failed)} of {counted(len(failed) + found['pool'], 'photo')} cannot be read",
            why=few_lines(failed),
            fix="repair, convert or remove them; the others were chosen from",
        )


def _summary(found: dict[str, Any], root: Path) -> str:
    alike = f", {found['alike']} of which are nearly the same as another" if found["alike"] else ""
    lines = [
        f"{found['data']}: {len(found['picked'])} of {counted(found['pool'], 'photo')} without a label{alike}",
        found["rule"],
        f"in the order of use: {found['list']}; the photos: {found['images']}",
        *([f"why these: {found['page']}"] if found["page"] else []),
        *([f"masks to correct: {found['annotations'] or found['labels']}{_opened(found)}"] if found["labels"] else []),
    ]
    return "\n".join([*lines, *_then(found, root)])


def _opened(found: dict[str, Any]) -> str:
    """What shows LabelMe's files, which looks for them beside the photos; the other tools import theirs."""
    folder = Path(found["annotations"] or "")
    if folder.name != "labelme":
        return ""
    words = ["labelme", found["images"], "--output", str(folder), "--labels", str(folder / "labels.txt")]
    return f" ({shlex.join(words)})"


def _then(found: dict[str, Any], root: Path) -> list[str]:
    """How to go on: with the masks that are there, or with those that somebody draws, where they are taken."""
    if found["have_masks"]:
        return [f"then: {command('train', '-d', found['data'], '-l', found['list'], root=root)}"]
    if found["kind"] == "folder":
        there = f" in {found['masks']}" if found["masks"] else ""
        return [f"then, with their masks{there}: {updating(root / found['data'])}"]
    photos = found["images"] if found["kind"] else found["data"]  # a benchmark takes no masks: a dataset of one's own
    line = command("prepare", "folder", "--labeled", photos, "--masks", "masks", "--name", "mine", root=root)
    return [f"draw them into masks/: {DRAWN}", f"then, with their masks: {line}"]
