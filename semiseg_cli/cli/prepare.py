"""`semiseg prepare`: make a dataset ready, from a seed or from folders of images and masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiseg_cli.cli import console
from semiseg_cli.core.errors import UsageError

if TYPE_CHECKING:
    from semiseg_cli.core.data.spec import Dataset

app = typer.Typer(no_args_is_help=True, help="Make a dataset ready for training: a synthetic one, or your own images.")

SOURCE, MASKS, OUTPUT = "What to take", "How to read the masks", "Output"
Root = Annotated[
    Path, typer.Option(envvar="SEMISEG_DATA", help="folder of the prepared datasets", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document", rich_help_panel=OUTPUT)]


@app.command()
def shapes(
    root: Root = Path("data"),
    name: Annotated[str, typer.Option(help="name of the dataset", rich_help_panel=OUTPUT)] = "shapes",
    seed: Annotated[int, typer.Option(min=0, help="another seed, other images", rich_help_panel=SOURCE)] = 0,
    labeled: Annotated[int, typer.Option(min=1, help="training images with a mask", rich_help_panel=SOURCE)] = 10,
    unlabeled: Annotated[int, typer.Option(min=0, help="training images without", rich_help_panel=SOURCE)] = 300,
    val: Annotated[int, typer.Option(min=1, help="validation images", rich_help_panel=SOURCE)] = 80,
    size: Annotated[int, typer.Option(min=32, help="side of the images in pixels", rich_help_panel=SOURCE)] = 128,
    json: Json = False,
) -> None:
    """Draw a synthetic dataset of six classes from a seed: no download, a second or two."""
    from semiseg_cli.stages.prepare import prepare_shapes

    there = _check_name(root, name)
    dataset = prepare_shapes(
        root,
        name=name,
        seed=seed,
        labeled=labeled,
        unlabeled=unlabeled,
        val=val,
        size=size,
        progress=console.progress,
    )
    _tell(dataset, there, json)


@app.command()
def folder(
    labeled: Annotated[Path, typer.Option(metavar="DIR", help="images that have a mask", rich_help_panel=SOURCE)],
    masks: Annotated[
        Path, typer.Option(metavar="DIR", help="their masks: a.png or a_mask.png for a.jpg", rich_help_panel=SOURCE)
    ],
    classes: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="a class name per line, or JSON with names and palette", rich_help_panel=MASKS
        ),
    ],
    unlabeled: Annotated[
        Path | None, typer.Option(metavar="DIR", help="images without a mask", rich_help_panel=SOURCE)
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="validation images; without it a fifth of the labeled", rich_help_panel=SOURCE
        ),
    ] = None,
    val_masks: Annotated[Path | None, typer.Option(metavar="DIR", help="their masks", rich_help_panel=SOURCE)] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="V=CLASS", help="take a value or #rrggbb as a class; repeatable", rich_help_panel=MASKS
        ),
    ] = None,
    ignore: Annotated[
        int | None,
        typer.Option(
            help="mask value of pixels that count nowhere",
            show_default="ignore_index of the JSON, else 255",
            rich_help_panel=MASKS,
        ),
    ] = None,
    long_side: Annotated[
        int, typer.Option(min=0, help="reduce larger images to this many pixels; 0: keep them", rich_help_panel=OUTPUT)
    ] = 1024,
    root: Root = Path("data"),
    name: Annotated[str, typer.Option(help="name of the dataset", rich_help_panel=OUTPUT)] = "folder",
    json: Json = False,
) -> None:
    """Your own images: some with a mask, the others without. Photos of any kind, index or colour masks.

    A mask belongs to the image of the same name. The originals are left as they are.
    """
    from semiseg_cli.stages.prepare import prepare_folder

    there = _check_name(root, name)
    dataset = prepare_folder(
        root,
        name=name,
        labeled=labeled,
        masks=masks,
        unlabeled=unlabeled,
        val=val,
        val_masks=val_masks,
        classes=classes,
        map=_mapping(map_ or []),
        ignore=ignore,
        long_side=long_side,
        progress=console.progress,
    )
    _tell(dataset, there, json)


def _check_name(root: Path, name: str) -> bool:
    """Whether a dataset of this name is there already. Raises UsageError for a name that is no plain folder name."""
    if not name or name[0] in ".-" or name != Path(name).name:
        raise UsageError(f"--name '{name}' cannot name a folder", fix="--name photos")
    return (root / name / "dataset.toml").is_file()


def _mapping(words: list[str]) -> dict[int, int]:
    from semiseg_cli.core.data.classes import parse_code

    mapping = {}
    for word in words:
        code, _, target = word.partition("=")
        try:
            mapping[parse_code(code)] = int(target)
        except ValueError as error:
            raise UsageError(f"--map {word} is not understood", fix="--map 255=1, or --map '#804000=1'") from error
    return mapping


def _tell(dataset: Dataset, there: bool, json: bool) -> None:
    """What was prepared, notes first; it was `there` already if nothing had to be done."""
    from semiseg_cli.stages.prepare import notes

    found = notes(dataset)
    for note in found:
        console.note(note)
    counts = {
        "labeled": len(dataset.labeled),
        "unlabeled": len(dataset.train) - len(dataset.labeled),
        "val": len(dataset.val),
    }
    data = {
        "name": dataset.name,
        "folder": str(dataset.root),
        "classes": list(dataset.classes),
        **counts,
        "notes": found,
        "ready": there,
    }
    text = f"{dataset.name} {'is ready' if there else 'prepared'} in {dataset.root}: " + ", ".join(
        f"{count} {part}" for part, count in counts.items()
    )
    console.result("prepare", data, f"{text}, {len(dataset.classes)} classes", json)
