"""`semiseg prepare voc` and `semiseg prepare cityscapes`: the published benchmarks, unpacked or not yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console
from semiseg_cli.cli.prepared import OUTPUT, SOURCE, Json, Name, Root, before, tell
from semiseg_cli.core.errors import UsageError

More = Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help="further archives", show_default=False)]


def voc(
    more: More = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="VOCdevkit/VOC2012, unpacked; stays where it is", rich_help_panel=SOURCE),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="VOCtrainval_11-May-2012.tar, an archive of SBD; repeatable", rich_help_panel=SOURCE
        ),
    ] = None,
    sbd: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="SBD, for 10,582 training images: benchmark_RELEASE, SegmentationClassAug, an archive; none: without",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="fetch what lacks of VOC (2.0 GB) and SBD (1.4 GB)", rich_help_panel=SOURCE),
    ] = False,
    root: Root = Path("data"),
    name: Name = "voc",
    json: Json = False,
) -> None:
    """PASCAL VOC 2012, 21 classes, with the labels of SBD or without. Labels become 8-bit index PNGs.

    With no options it takes what lies in the working directory, below it or beside it, packed or not. Interrupted, the
    same command goes on where it stood. SBD may be added later. Photos that were moved: --source DIR.
    """
    from semiseg_cli.stages.prepare_voc import prepare_voc

    there = before(root, name)
    dataset = prepare_voc(
        root,
        name=name,
        source=source,
        archive=_archives(archive, more),
        sbd=sbd,
        fetch=download,
        around=Path(),
        note=console.note,
        progress=console.progress,
    )
    tell(dataset, there, json)


def cityscapes(
    more: More = None,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="the folder of leftImg8bit and gtFine; stays where it is", rich_help_panel=SOURCE
        ),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip", rich_help_panel=SOURCE
        ),
    ] = None,
    convert: Annotated[
        str | None,
        typer.Option(
            metavar="none|jpg",
            help="make copies of the images that decode faster: JPEG, quality 95",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    root: Root = Path("data"),
    name: Name = "cityscapes",
    json: Json = False,
) -> None:
    """Cityscapes, 19 classes: 2,975 images to train on, 500 to validate. Its archives need a registration.

    With no options it takes what lies in the working directory, below it or beside it, packed or not. Images that were
    moved: --source DIR.
    """
    from semiseg_cli.stages.prepare_cityscapes import prepare_cityscapes

    there = before(root, name)
    dataset = prepare_cityscapes(
        root,
        name=name,
        source=source,
        archive=_archives(archive, more),
        convert=convert,
        around=Path(),
        note=console.note,
        progress=console.progress,
    )
    tell(dataset, there, json)


def _archives(named: list[Path] | None, more: list[Path] | None) -> list[Path]:
    """`--archive A B` as well as `--archive A --archive B`."""
    if more and not named:
        raise UsageError(f"what is {more[0]}?", fix=f"--source {more[0]} or --archive {more[0]}")
    return [*(named or ()), *(more or ())]
