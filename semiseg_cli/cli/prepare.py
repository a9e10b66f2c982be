"""`semiseg prepare`: make a dataset ready. Here from folders of images and masks or from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semiseg_cli.cli import console, prepare_benchmarks
from semiseg_cli.cli.prepared import MASKS, OUTPUT, SOURCE, Json, Name, Root, before, tell
from semiseg_cli.core.commands import command
from semiseg_cli.core.data.kinds import benchmarks
from semiseg_cli.core.errors import UsageError

NEEDED = "semiseg prepare folder --labeled DIR --masks DIR --classes FILE; or --name NAME --update, of what is there"
app = typer.Typer(no_args_is_help=True, help="Make a dataset ready for training: a benchmark, or your own images.")
for benchmark in benchmarks():
    app.command(benchmark)(getattr(prepare_benchmarks, benchmark.replace("-", "_")))


@app.command()
def folder(
    labeled: Annotated[
        Path | None, typer.Option(metavar="DIR", help="images that have a mask", rich_help_panel=SOURCE)
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="their masks: a.png for a.jpg, or with one affix for all, a_mask.png or gt-a.png; or annotations: "
            "COCO, LabelMe, CVAT for images 1.1, YOLO polygons, Label Studio",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="a class name per line; CSV, JSON or YAML with names, and values or colours if masks have them",
            show_default="as annotations or a labelmap.txt name them",
            rich_help_panel=MASKS,
        ),
    ] = None,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="images without a mask; alone it adds them to a dataset", rich_help_panel=SOURCE
        ),
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
            "--map",
            metavar="V=CLASS",
            help="take 7, 4-25, #rrggbb, nan or transparent as a class, or as 255: none; repeatable",
            rich_help_panel=MASKS,
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
    first: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="V",
            help="value of the first class: 1 if they are counted from 1; what is below counts nowhere",
            show_default="0",
            rich_help_panel=MASKS,
        ),
    ] = None,
    unknown: Annotated[
        Literal["refuse", "nearest", "ignore"],
        typer.Option(
            help="values and colours of no class: refuse, take a colour as the nearest class, or ignore them",
            rich_help_panel=MASKS,
        ),
    ] = "refuse",
    mask_reading: Annotated[
        Literal["index", "colour"] | None,
        typer.Option(help="what counts in a mask", show_default="as the masks tell", rich_help_panel=MASKS),
    ] = None,
    mask_orientation: Annotated[
        Literal["stored", "upright"] | None,
        typer.Option(
            help="masks of turned photos: drawn on the stored pixels, or on the photo as it is shown",
            show_default="as the sizes of masks tell, else upright",
            rich_help_panel=MASKS,
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="of a dataset that is there: take what came, changed and went in its folders; validation stays",
            rich_help_panel=SOURCE,
        ),
    ] = False,
    long_side: Annotated[
        int, typer.Option(min=0, help="reduce larger images to this many pixels; 0: keep them", rich_help_panel=OUTPUT)
    ] = 1024,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place", help="leave photos where they are, but for those that need a change", rich_help_panel=OUTPUT
        ),
    ] = False,
    shards: Annotated[
        bool,
        typer.Option(
            "--shards", help="put photos without a mask into shards, as semiseg shard does", rich_help_panel=OUTPUT
        ),
    ] = False,
    levels: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH",
            help="photos of 16 bits: the values that become 0 and 255",
            show_default="what all of them use, if it is less than half",
            rich_help_panel=OUTPUT,
        ),
    ] = "",
    root: Root = Path("data"),
    name: Name = "folder",
    json: Json = False,
) -> None:
    """Your own images: some with a mask, the others without. Photos of any kind, index or colour masks.

    Needs --labeled and --masks, and --classes where masks are image files. A mask has the name of its image, or all
    have one affix more. Annotations are drawn: later shapes cover earlier ones, and pixels in no shape belong to the
    class called background. The originals are left as they are.
    """
    from semiseg_cli.core.sources.told import Told
    from semiseg_cli.stages.prepare import prepare_folder

    there = before(root, name)
    told = Told(
        map=_mapping(map_ or []),
        ignore=ignore,
        first=first,
        unknown=unknown,
        reading=mask_reading or "",
        orientation=mask_orientation or "",
    )
    manner: dict[str, Any] = {
        "classes": classes, "unlabeled": unlabeled, "told": told, "long_side": long_side,
        "levels": _levels(levels) if levels else None, "in_place": in_place, "progress": console.progress,
    }  # fmt: skip
    if update or (there and unlabeled and not (labeled or masks or classes)):
        if shards:
            fix = f"after the update: {command('shard', name, root=root)}"
            raise UsageError("--shards is for a new dataset", why=f"{name} is there", fix=fix)
        from semiseg_cli.stages.update import update_folder

        moved = {"labeled": labeled, "masks": masks, "val": val, "val_masks": val_masks}
        dataset, changes = update_folder(root, name=name, moved=moved, **manner)
        for line in changes:
            console.note(line)
    else:
        given = {"--labeled": labeled, "--masks": masks, "--classes": classes or masks}
        if missing := [option for option, path in given.items() if not path]:
            raise UsageError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", fix=NEEDED)
        assert labeled
        assert masks
        dataset = prepare_folder(
            root, name=name, labeled=labeled, masks=masks, val=val, val_masks=val_masks, shards=shards, **manner
        )
    tell(dataset, there, json)


@app.command()
def shapes(
    root: Root = Path("data"),
    name: Name = "shapes",
    seed: Annotated[int, typer.Option(min=0, help="another seed, other images", rich_help_panel=SOURCE)] = 0,
    labeled: Annotated[int, typer.Option(min=1, help="training images with a mask", rich_help_panel=SOURCE)] = 10,
    unlabeled: Annotated[int, typer.Option(min=0, help="training images without", rich_help_panel=SOURCE)] = 300,
    val: Annotated[int, typer.Option(min=1, help="validation images", rich_help_panel=SOURCE)] = 80,
    size: Annotated[int, typer.Option(min=32, help="side of the images in pixels", rich_help_panel=SOURCE)] = 128,
    json: Json = False,
) -> None:
    """Draw a synthetic dataset of six classes from a seed: no download, a second or two."""
    from semiseg_cli.stages.prepare import prepare_shapes

    there = before(root, name)
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
    tell(dataset, there, json)


def _levels(words: str) -> tuple[int, int]:
    low, _, high = words.partition(",")
    if not (low.isdecimal() and high.isdecimal() and int(low) < int(high) < 65536):
        raise UsageError(f"--levels {words} is not a range from 0 to 65535", fix="--levels 0,4095")
    return int(low), int(high)


def _mapping(words: list[str]) -> dict[float, int]:
    from semiseg_cli.core.sources.codes import parse_codes

    mapping = dict[float, int]()
    for word in words:
        what, _, target = word.partition("=")
        try:
            codes, chosen = parse_codes(what), int(target)
        except ValueError as error:
            raise UsageError(f"--map {word} is not understood", fix="--map 255=1, or --map '#804000=1'") from error
        for code in codes:
            if mapping.setdefault(code, chosen) != chosen:
                raise UsageError(
                    f"--map gives {what} two classes, {mapping[code]} and {chosen}", fix="leave one of them out"
                )
    return mapping
