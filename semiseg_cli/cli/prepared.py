"""What the `prepare` commands share: options, the check of a dataset's name, and what they answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.core.commands import command
from semiseg_cli.core.data.kinds import KINDS, benchmarks
from semiseg_cli.core.data.swapped import put_right
from semiseg_cli.core.errors import UsageError

if TYPE_CHECKING:
    from semiseg_cli.core.data.spec import Dataset

SOURCE, MASKS, OUTPUT = "What to take", "How to read the masks", options.OUTPUT
Json = options.Json
Root = Annotated[
    Path, typer.Option(envvar="SEMISEG_DATA", help="folder of the prepared datasets", rich_help_panel=OUTPUT)
]
Name = Annotated[str, typer.Option(help="name of the dataset", rich_help_panel=OUTPUT)]


def before(root: Path, name: str) -> bytes:
    """The description of what is prepared under this name, empty if nothing is.

    Raises UsageError for a name that is no plain folder name.
    """
    if not name or name[0] in ".-" or name != Path(name).name or not name.isprintable():
        raise UsageError(f"--name {name!r} cannot name a folder", fix="--name photos")
    put_right(root / name)
    return _description(root / name)


def tell(dataset: Dataset, there: bytes, json: bool) -> None:
    """What was prepared, notes first; it was ready if its description is what was `there` before."""
    from semiseg_cli.stages.prepare import notes

    found, ready = notes(dataset), _description(dataset.root) == there
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
        "ready": ready,
    }
    text = f"{dataset.name} {'is ready' if ready else 'prepared'} in {dataset.root}: " + ", ".join(
        f"{count} {part}" for part, count in counts.items()
    )
    console.result("prepare", data, f"{text}, {len(dataset.classes)} classes", json)
    for line in following(dataset):
        console.note(line)


def following(dataset: Dataset) -> list[str]:
    """What can be typed next, the likeliest first; for a benchmark, its published partitions besides."""
    name, root = dataset.name, dataset.root.parent
    words = ["train", "-d", name]
    if dataset.kind == "folder" and len(dataset.labeled) == len(dataset.train):  # all that somebody labeled
        words += ["-m", "supervised"]
    elif len(dataset.labeled) == len(dataset.train):  # with as few labels as the field begins with
        few = KINDS[dataset.kind].labels if dataset.kind in KINDS else "1/8"
        words += ["-l", "1/8" if few.isdecimal() and int(few) > len(dataset.labeled) else few]
    lines = [f"next: {command(*words, root=root)}"]
    if dataset.kind in benchmarks():
        lines.append(f"published partitions: {command('split', name, '--list', root=root)}")
    return lines


def _description(folder: Path) -> bytes:
    file = folder / "dataset.toml"
    return file.read_bytes() if file.is_file() else b""
