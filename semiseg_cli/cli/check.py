"""`semiseg check`: is a prepared dataset as it was prepared, and fit to be trained and measured on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.core.errors import CheckFailed

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 5  # findings of a kind that the terminal shows; the JSON document has all
LONGEST = 200  # characters of a group of equal images, which may have thousands of names; a name is never cut


def check(
    data: options.DataArgument = "",
    labeled: Annotated[
        str, typer.Option("--labeled", "-l", help="count the classes of this partition too: 183, 1/8, classic/183 ...")
    ] = "",
    fast: Annotated[
        bool, typer.Option("--fast", help="open no picture: only what the index says, and whether files are there")
    ] = False,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Read every image and mask: files, sizes, values, classes, and pictures that are in train and val.

    --fast takes a second with ten million photos, and looks for a thousand of their files.

    Exits with 7 when something is wrong.
    """
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.check import check as run

    found = run(root, data or default_name(root), labeled=labeled, fast=fast, progress=console.progress)
    console.result("check", found, _text(found), json)
    if not json:
        for line in _findings(found["warnings"]):
            console.warn(line)
    if count := len(found["problems"]):
        raise CheckFailed(
            f"{found['data']}: {count} {'thing is' if count == 1 else 'things are'} wrong",
            why="\n".join(_findings(found["problems"])),
            fix=found["fix"],
        )


def _text(found: dict[str, Any]) -> list[str | Table]:
    from rich.table import Table
    from rich.text import Text

    images, partition = found["images"], found["partition"]
    columns = ["class", "images", "%", "val images", "%", *(["in the partition", "%"] if partition else [])]
    table = Table(*columns, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    totals = {part: sum(row[f"{part}_pixels"] for row in found["classes"].values()) for part in ("train", "val")}
    for name, row in found["classes"].items():
        cells = [c for p in totals for c in (str(row[f"{p}_images"]), _share(row[f"{p}_pixels"], totals[p]))]
        if partition:
            own = partition["classes"]
            cells += [str(own[name]["images"]), _share(own[name]["pixels"], sum(p["pixels"] for p in own.values()))]
        table.add_row(Text(name), *cells)
    val = {True: ", the published validation set", False: ", not the published validation set", None: ""}
    lines = [
        f"{found['data']}: {images['labeled']} labeled and {images['unlabeled']} unlabeled images, "
        f"{images['val']} for validation{val[found['val_is_published']]}",
        f"sizes: {_range(found['sizes'])} pixels",
    ]
    if partition:
        lines.append(f"partition: {partition['name']}; {partition['unlabeled']} unlabeled")
    end = [] if found["problems"] else ["nothing is wrong" + ", as far as the index says" * found["fast"]]
    return [*lines, table, *end]


def _range(sizes: dict[str, str]) -> str:
    least, most = sizes["smallest"], sizes["largest"]
    return f"all {least}" if least == most else f"{least} to {most}"


def _findings(findings: list[dict[str, str]]) -> list[str]:
    """A line per kind of finding, with the first of them."""
    kinds: dict[str, list[str]] = {}
    for each in findings:
        kinds.setdefault(each["what"], []).append(each["detail"])
    return [
        f"{len(details)} x {what}: "
        + "; ".join(map(_shortened, details[:SHOWN]))
        + ("; ..." if len(details) > SHOWN else "")
        for what, details in kinds.items()
    ]


def _shortened(detail: str) -> str:
    """A group's first names, as many as are not too long together; one name, such as a path, as it is."""
    from semiseg_cli.stages.check import EQUAL

    first, *others = detail.split(EQUAL)
    while others and len(first) + len(EQUAL + others[0]) <= LONGEST:
        first += EQUAL + others.pop(0)
    return first + " ..." * bool(others)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "-"
