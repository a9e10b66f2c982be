"""How a dataset is prepared again, or with more: the command for its kind, name and data root. Nothing is removed."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.spec import Dataset

KINDS = ("voc", "cityscapes", "shapes", "folder")
BENCHMARKS = ("voc", "cityscapes")  # published: nobody adds images to them


def preparing(name: str, kind: str, root: Path, *words: str | Path) -> str:
    """`semiseg prepare <kind>` with these words, for a dataset of this name below this data root."""
    return command("prepare", kind, *words, *(() if name == kind else ("--name", name)), root=root)


def adding(dataset: Dataset, *words: str) -> str:
    """What brings a dataset more of something: the options of its own `prepare folder`, or of another dataset.

    words: options of `prepare folder`, as in `--unlabeled DIR`. Empty for a benchmark, which has what it has.
    """
    if dataset.kind in BENCHMARKS:
        return ""
    return f"prepare the dataset with {' '.join(words)} as well: {command('prepare', 'folder', '--help')}"


def completing(name: str, kind: str, root: Path) -> str:
    """What brings a benchmark the images that its protocols draw from; empty for other data."""
    if kind == "voc":
        return f"SBD's labels make it whole: {preparing(name, kind, root, '--download')} (1.4 GB), or --sbd DIR|FILE"
    return preparing(name, kind, root, "--source", "DIR") if kind in BENCHMARKS else ""


def anew(folder: Path) -> str:
    """The fix for a damaged dataset: it is set aside whole, prepared again, and gets its splits back."""
    old = folder.with_name(f".{folder.name}-old")
    line = f"{shlex.join(['mv', str(folder), str(old)])} && {_as_before(folder)}"
    if (folder / "splits").is_dir():
        line += f" && {shlex.join(['mv', str(old / 'splits'), str(folder / 'splits')])}"
    return line


def _as_before(folder: Path) -> str:
    """The command that prepares what a folder holds, as far as its description still tells."""
    table = _described(folder)
    name, root = folder.name, folder.parent
    kind, source = table.get("kind", name if name in KINDS else ""), table.get("source", {})
    if kind == "voc":
        return preparing(name, kind, root, *_options(source, root, {"--source": "devkit", "--sbd": "sbd"}))
    if kind == "cityscapes":
        place = {"images": str(Path(source["images"]).parent)} if source.get("images") else {}
        return preparing(name, kind, root, *_options(place, root, {"--source": "images"}))
    if kind == "shapes":
        known = [key for key in ("seed", "labeled", "unlabeled", "val", "size") if key in source]
        return preparing(name, kind, root, *(word for key in known for word in (f"--{key}", str(source[key]))))
    places = {f"--{key.replace('_', '-')}": key for key in ("labeled", "masks", "unlabeled", "val", "val_masks")}
    return preparing(name, "folder", root, *_options(source, root, places), "--classes", "FILE")


def _options(source: dict[str, Any], root: Path, names: dict[str, str]) -> list[str]:
    """Options with the places that a description names (relative to the data root, or absolute) or declines."""
    known = {option: source.get(key) for option, key in names.items()}
    said = {option: place if place == "none" else str(root / place) for option, place in known.items() if place}
    return [word for pair in said.items() for word in pair]


def _described(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
