"""How a dataset is prepared again, or with more: the command for its kind, name and data root. Nothing is removed."""

from __future__ import annotations

import itertools
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import BadFile, DataError

KINDS = ("voc", "cityscapes", "shapes", "folder")
BENCHMARKS = ("voc", "cityscapes")  # published: nobody adds images to them


def preparing(name: str, kind: str, root: Path, *words: str | Path) -> str:
    """`semiseg prepare <kind>` with these words, for a dataset of this name below this data root."""
    return command("prepare", kind, *words, *(() if name == kind else ("--name", name)), root=root)


def first_steps(root: Path) -> str:
    """What to type where nothing is prepared yet."""
    lines = {
        command("prepare", "folder", "--help"): "your own images, some with masks",
        command("prepare", "voc", root=root): "PASCAL VOC 2012; or cityscapes: taken from where they lie around here",
        command("demo"): "see it at work: two minutes, no download",
    }
    return "\n    ".join(["one of", *(f"{line}    # {what}" for line, what in lines.items())])


def adding(dataset: Dataset, words: str) -> str:
    """What brings somebody's own dataset more of something; empty for other kinds, which have what they have.

    words: options of `prepare folder`, as in `--unlabeled DIR`.
    """
    if dataset.kind != "folder":
        return ""
    name = f"{dataset.name}-2"
    return f"prepare it as {name}, with {words}: {preparing(name, 'folder', dataset.root.parent, '--help')}; "


def completing(name: str, kind: str, root: Path) -> str:
    """What brings a benchmark the images that its protocols draw from; empty for other data."""
    if kind == "voc":
        return f"SBD's labels make it whole: {preparing(name, kind, root, '--download')} (1.4 GB), or --sbd DIR|FILE"
    return preparing(name, kind, root, "--source", "DIR") if kind in BENCHMARKS else ""


def at_hand(dataset: Dataset) -> Dataset:
    """The dataset, if its first images are where it says. DataError with what brings them back: they move together."""
    firsts = [record.image for part in (dataset.train, dataset.val) for record in part[:1]]
    if missing := [image for image in firsts if not image.is_file()]:
        what = f"the images of {dataset.name} are not where they were when it was prepared"
        raise DataError(what, why=f"there is no {missing[0]}", fix=bringing_back(dataset.root, dataset.kind, missing))
    return dataset


def bringing_back(folder: Path, kind: str, missing: Sequence[Path]) -> str:
    """What to do about files that are gone: photos outside the dataset's folder were moved, others are made anew."""
    if kind in BENCHMARKS and not any(file.is_relative_to(folder) for file in missing):
        line = preparing(folder.name, kind, folder.parent)
        return f"{line} where they lie now, or {line} --source DIR; splits and masks stay"
    return anew(folder)


@contextmanager
def naming_bad_files(dataset: Dataset) -> Iterator[None]:
    """A file of the dataset that cannot be read is told with the command that names every such file."""
    try:
        yield
    except BadFile as error:
        line = command("check", dataset.name, root=dataset.root.parent)
        error.fix = f"replace the file; {line} names every such file"
        raise


def anew(folder: Path) -> str:
    """The fix for a damaged dataset: it is set aside whole, prepared again, and gets its splits back."""
    free = (folder.with_name(f".{folder.name}-old{number or ''}") for number in itertools.count())
    old = next(path for path in free if not path.exists())
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
