"""`semiseg split`: draw a partition into labeled and unlabeled images, import published ones, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import OUTPUT
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.partitions import WAYS
from semiseg_cli.core.settings import DataConfig, doc

if TYPE_CHECKING:
    from rich.table import Table

    from semiseg_cli.stages.published_lists import Outcome
    from semiseg_cli.stages.split import Known, Split

HOW, PUBLISHED = "How to draw", "Published lists"


def split(
    data: options.DataArgument = "",
    labeled: Annotated[
        str, typer.Option("--labeled", "-l", help="labeled images: 183, or a fraction like 1/8", rich_help_panel=HOW)
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="draw as classic or blender do; without --labeled all sizes", rich_help_panel=HOW
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="another seed, another draw", rich_help_panel=HOW)] = 0,
    balance: Annotated[
        str, typer.Option(help=doc(DataConfig, "balance"), autocompletion=lambda: list(WAYS), rich_help_panel=HOW)
    ] = "classes",
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import", metavar="DIR", help="take labeled.txt and unlabeled.txt of DIR, or of all below it",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    fetch: Annotated[
        str, typer.Option(metavar="WHOSE", help="download published lists: unimatch", rich_help_panel=PUBLISHED)
    ] = "",
    url: Annotated[
        str, typer.Option(metavar="URL", help="with --fetch: where a copy is, if not there", rich_help_panel=PUBLISHED)
    ] = "",
    list_: Annotated[
        bool, typer.Option("--list", help="show the partitions at hand and the published ones", rich_help_panel=OUTPUT)
    ] = False,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Draw a partition: which training images count as labeled. Their lists are written beside the dataset.

    `train --labeled 183` takes the published list if it is at hand, else it draws by itself; here partitions can be
    drawn, counted and looked at, and published ones imported or fetched. They are recognised by fingerprint.
    """
    words = [data] if data else []
    if [bool(labeled or protocol), import_ is not None, bool(fetch), list_].count(True) != 1:
        raise UsageError(
            "split needs one of --labeled (or --protocol), --import, --fetch and --list",
            fix=command("split", *words, "--labeled", "1/8", root=root),
        )
    if protocol and not labeled and (seed or balance != "classes"):
        own = ("--labeled", "COUNT", "--seed", str(seed), "--balance", balance)
        raise UsageError(
            "the recipes of a protocol have seeds and samplers of their own",
            fix=command("split", *words, "--protocol", protocol, *own, root=root),
        )
    if not (labeled or protocol) and (seed or balance != "classes"):
        raise UsageError(
            "--seed and --balance say how a partition is drawn, and nothing is drawn here",
            fix=command("split", *words, "--labeled", "COUNT", "--seed", str(seed), "--balance", balance, root=root),
        )
    if url and not fetch:
        raise UsageError(
            "--url goes with --fetch",
            fix=command("split", *words, "--fetch", "unimatch", "--url", url, root=root),
        )
    if list_:
        _list(root, data, json)
    elif labeled:
        _draw(root, data, labeled, protocol, seed, balance, json)
    elif protocol:
        _draw_all(root, data, protocol, json)
    else:
        _bring(root, data, import_, fetch, url, json)


def _draw(root: Path, data: str, labeled: str, protocol: str, seed: int, balance: str, json: bool) -> None:
    from rich.table import Table

    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.split import make_split

    name = data or default_name(root)
    made = make_split(root, name, labeled, protocol=protocol, balance=balance, seed=seed)
    partition = made.partition
    table = Table("class", "images", "of", "pixels", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for count in made.counts:
        table.add_row(count.name, str(count.images), str(count.images_available), f"{count.pixels:,}")
    lines = (
        f"{name}: {partition.name}; {len(partition.unlabeled)} unlabeled",
        f"fingerprint {partition.fingerprint[:16]}, lists in {made.folder}",
    )
    console.result("split", _result(name, made), [*lines, table], json)
    if partition.hint:
        console.note(partition.hint)
    for count in made.counts:
        if not count.images:
            console.warn(f"class '{count.name}' is in none of the labeled images")
    _follow(root, name, *made.options)


def _follow(root: Path, name: str, *options: str) -> None:
    console.note(f"next: {command('train', '-d', name, *options, root=root)}")


def _draw_all(root: Path, data: str, protocol: str, json: bool) -> None:
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.split import make_recipes

    name = data or default_name(root)
    made = make_recipes(root, name, protocol)
    lines = [f"{name}: {each.partition.name}; lists in {each.folder}" for each in made]
    console.result("split", [_result(name, each) for each in made], "\n".join(lines), json)
    _follow(root, name, *made[0].options)


def _result(name: str, made: Split) -> dict[str, Any]:
    partition = made.partition
    return {
        "data": name,
        "partition": partition.name,
        "fingerprint": partition.fingerprint,
        "folder": str(made.folder),
        "labeled": len(partition.labeled),
        "unlabeled": len(partition.unlabeled),
        "classes": {count.name: {"images": count.images, "pixels": count.pixels} for count in made.counts},
    }


def _bring(root: Path, data: str, source: Path | None, fetch: str, url: str, json: bool) -> None:
    from semiseg_cli.stages.published_lists import fetch_lists, import_lists

    if source:
        found = import_lists(root, source, data)
    else:
        found = fetch_lists(root, fetch, data, url=url, note=console.note, progress=console.progress)
    rows = [
        {
            "data": each.data,
            "words": each.words,
            "partition": each.partition.name,
            "labeled": len(each.partition.labeled),
            "unlabeled": len(each.partition.unlabeled),
            "fingerprint": each.partition.fingerprint,
        }
        for each in found.imported
    ]
    console.result("split", {"imported": rows, "left": found.left}, _imported(found), json)
    for line in found.left:
        console.warn(f"left aside: {line}")
    for each in found.imported[:1]:
        _follow(root, each.data, "-l", each.words)


def _imported(found: Outcome) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("data", "--labeled", "labeled", "unlabeled", "partition", box=None, header_style="dim")
    for each in found.imported:
        counts = (str(len(each.partition.labeled)), str(len(each.partition.unlabeled)))
        table.add_row(Text(each.data), Text(each.words), *counts, Text(each.partition.name))
    return table


def _list(root: Path, data: str, json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from semiseg_cli.stages.split import list_splits

    found = list_splits(root, data)
    table = Table("data", "--labeled", "labeled", "unlabeled", "what it is", "", box=None, header_style="dim")
    table.columns[-1].no_wrap = True  # to be copied
    for each in found:
        counts = (len(each.partition.labeled), len(each.partition.unlabeled)) if each.partition else ("", "")
        what = each.partition.name if each.partition else str(each.published or "")
        table.add_row(*(Text(str(cell)) for cell in (each.data, each.words, *counts, what, each.how)))
    nothing = f"no partition drawn yet ({command('split', *filter(None, [data]), '--labeled', '1/8', root=root)})"
    console.result("split", [_row(each) for each in found], table if found else nothing, json)


def _row(each: Known) -> dict[str, Any]:
    """A line of the list: `at_hand`, or how to get it; `sets` are the code bases that published these members."""
    partition, published = each.partition, each.published
    return {
        "data": each.data,
        "partition": each.words,
        "name": partition.name if partition else str(published or ""),
        "labeled": len(partition.labeled) if partition else None,
        "unlabeled": len(partition.unlabeled) if partition else None,
        "fingerprint": partition.fingerprint if partition else published.sha256 if published else None,
        "sets": published.sets if published else (),
        "at_hand": partition is not None,
        "how": each.how,
    }
