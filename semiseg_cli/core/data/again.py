"""How a dataset is prepared again, or with more: the command for its kind, name and data root. Nothing is removed."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.described import Made
from semiseg_cli.core.data.kinds import KINDS, Kind, benchmarks
from semiseg_cli.core.data.shards import is_there
from semiseg_cli.core.errors import BadFile, DataError
from semiseg_cli.core.reading import SMALL, parse_toml, read_bytes

if TYPE_CHECKING:  # whoever lists runs needs no numpy
    from semiseg_cli.core.data.spec import Dataset

SHARD_MB = 64.0  # as `semiseg shard` makes them where it is not told
USUALLY = {"ignore": 255, "long_side": 1024}  # what `prepare folder` takes where it is not told


def preparing(name: str, kind: str, root: Path, *words: str | Path) -> str:
    """`semiseg prepare <kind>` with these words, for a dataset of this name below this data root."""
    return command("prepare", kind, *words, *(() if name == kind else ("--name", name)), root=root)


def first_steps(root: Path) -> str:
    """What to type where nothing is prepared yet."""
    first, *others = (name for name in benchmarks() if KINDS[name].around)
    published = f"{KINDS[first].title}; or {', '.join(others)}: taken from where they lie around here"
    lines = {
        command("prepare", "folder", "--help"): "your own images, some with masks",
        command("prepare", first, root=root): published,
        command("demo"): "see it at work: two minutes, no download",
    }
    return "\n    ".join(["one of", *(f"{line}    # {what}" for line, what in lines.items())])


def sharding(folder: Path) -> str:
    """The command that made a dataset of another one, with its photos in shards; empty for any other."""
    made = _described(folder).get("shards", {})
    if not (name := made.get("made_of")):
        return ""
    words = [*_unless(f"{name}-shards", "--name", folder.name), *_unless(SHARD_MB, "--shard-mb", made.get("size"))]
    if url := made.get("url"):
        words += ["--to", url]
    return command("shard", name, *words, root=folder.parent)


def _unless(usual: object, option: str, value: object) -> list[str]:
    """An option with its value, where that is another one than without it."""
    return [] if value in (None, usual) else [option, f"{value:g}" if isinstance(value, float) else str(value)]


def adding(dataset: Dataset, *words: str) -> str:
    """What brings somebody's own dataset more of something; empty for other kinds, which have what they have.

    words: options of `prepare folder`, as in `--unlabeled`, `DIR`: it takes them alone, others with all from before.
    """
    if dataset.kind != "folder" or "shards" in _described(dataset.root):
        return ""
    root, name = dataset.root.parent, f"{dataset.name}-2"
    if words[0] == "--unlabeled":
        return f"add some: {preparing(dataset.name, 'folder', root, *words)}; "
    return f"prepare it with some, as {name}: {_again(_described(dataset.root), name, dataset.root, root, *words)}; "


def completing(name: str, kind: str, root: Path) -> str:
    """What brings a benchmark the images that its protocols draw from; empty for other data."""
    if kind not in benchmarks():
        return ""
    if part := KINDS[kind].lacking:
        return part.told.format(line=preparing(name, kind, root, *part.words))
    return preparing(name, kind, root, "--source", "DIR")


def at_hand(dataset: Dataset) -> Dataset:
    """The dataset, if its first and last images are where it says. DataError with what brings them back.

    Images move together.
    """
    some = [record.image for part in (dataset.train, dataset.val) for record in (*part[:1], *part[-1:])]
    if missing := [image for image in some if not is_there(image)]:
        what = f"the images of {dataset.name} are not where they were when it was prepared"
        raise DataError(what, why=f"there is no {missing[0]}", fix=bringing_back(dataset.root, dataset.kind, missing))
    return dataset


def bringing_back(folder: Path, kind: str, missing: Sequence[Path]) -> str:
    """What to do about files that are gone: photos outside the dataset's folder were moved, others are made anew."""
    moved = not any(file.is_relative_to(folder) for file in missing)
    if kind == "folder" and moved:  # left in their place
        gone = next((each for each in reversed(missing[0].parents) if not each.is_dir()), None)
        if gone is None:
            return f"bring them back, or leave them out: {updating(folder)}"
        link = shlex.join(["ln", "-s", "DIR", str(gone)])
        return f"bring {gone} back, or put a link there to where it is now: {link}"
    if kind in benchmarks() and moved:
        line = preparing(folder.name, kind, folder.parent)
        found = f"{line} where they lie now, or " if KINDS[kind].around else ""
        return f"{found}{line} --source DIR; splits and masks stay"
    return anew(folder)


@contextmanager
def naming_bad_files(dataset: Dataset) -> Iterator[None]:
    """A file of the dataset that cannot be read is told with the command that names every such file."""
    try:
        yield
    except BadFile as error:
        line = command("check", dataset.name, root=dataset.root.parent)
        error.fix = f"{as_now(dataset.root) or 'replace the file'}; {line} names every such file"
        raise


def as_now(folder: Path) -> str:
    """What to do about photos that were left in their place or are in shards, and are others now; else empty."""
    described = _described(folder)
    if "shards" in described:
        return f"bring the shards back as they were, or make them again: {anew(folder)}"
    kept = described.get("source", {}).get("in_place")
    return f"bring the file back as it was, or take it as it is now: {updating(folder)}" if kept else ""


def updating(folder: Path) -> str:
    """What takes into a dataset of somebody's own what its folders hold now; one in shards is made again."""
    described = _described(folder)
    if made_of := described.get("shards", {}).get("made_of"):
        return f"{updating(folder.with_name(made_of))} && {anew(folder)}"
    if "shards" in described:
        return anew(folder)
    return command("prepare", "folder", "--name", folder.name, "--update", root=folder.parent)


def anew(folder: Path) -> str:
    """The fix for a damaged dataset: it is set aside whole, prepared again, and gets its splits back."""
    table, root = _described(folder), folder.parent
    kind = table.get("kind") or (folder.name if folder.name in KINDS else "")
    if kind and kind not in KINDS:
        return f"bring its files back, or prepare it again as it was: this version has no 'semiseg prepare {kind}'"
    free = (folder.with_name(f".{folder.name}-old{number or ''}") for number in itertools.count())
    old = next(path for path in free if not path.exists())
    aside = shlex.join(["mv", str(folder), str(old)])
    if not kind:
        return f"{aside}, then prepare it again as it was: {command('prepare', '--help')}"
    if made := sharding(folder):  # with the splits of what it is made of
        own = shlex.join(["cp", "-r", str(old / "splits"), str(folder)])
        return f"{aside} && {made}" + f" && {own}" * (folder / "splits").is_dir()
    line = f"{aside} && {_again(table | {'kind': kind}, folder.name, old, root)}"
    if (folder / "splits").is_dir():
        line += f" && {shlex.join(['mv', str(old / 'splits'), str(folder / 'splits')])}"
    return line


def _again(table: Mapping[str, Any], name: str, folder: Path, root: Path, *words: str) -> str:
    """The commands that prepare, by this name, what `dataset.toml` says. folder: where its classes file is then.

    words: options and their places, which come or stand in place of those of before.
    """
    kind, source = table.get("kind", "folder"), table.get("source", {})
    said = _as_before(KINDS[kind], source, root, dict(zip(words[::2], words[1::2], strict=True)))
    if kept := table.get("classes_file"):
        said = [str(folder / kept) if word == "FILE" else word for word in said]
    line = preparing(name, kind, root, *said)
    for more in source.get("more", ()):
        line += f" && {preparing(name, kind, root, '--unlabeled', more)}"
    return line


def _as_before(kind: Kind, source: Mapping[str, Any], root: Path, new: dict[str, str]) -> list[str]:
    """The words that prepare what a folder holds, as far as its description still tells.

    Places are relative to the data root, or absolute, or `none` where somebody declined them. new: other places.
    """
    said = dict[str, str]()
    for option, entry in kind.places.items():
        key, _, around = entry.partition("/")
        if (place := source.get(key)) and isinstance(place, str):
            path = root / place
            said[option] = place if place == "none" else str(path.parent if around else path)
    said |= {f"--{key}": str(source[key]) for key in kind.numbers if key in source} | new
    words = list(itertools.chain.from_iterable(said.items()))
    for option, entry in kind.options.items():
        value = source.get(entry, USUALLY.get(entry))
        if isinstance(value, Mapping):
            words += [word for code, target in value.items() for word in (option, f"{code}={target}")]
        elif isinstance(value, list):
            words += [option, ",".join(map(str, value))]
        elif value is True:
            words.append(option)
        elif value != USUALLY.get(entry):
            words += [option, str(value)]
    return [*words, *kind.words]


def _described(folder: Path) -> dict[str, Any]:
    """What `dataset.toml` says: of a damaged one the kind, if it still tells it."""
    try:
        text = read_bytes(folder / "dataset.toml", SMALL).decode("utf-8", "replace")
    except OSError:
        return {}
    try:
        table: dict[str, Any] = parse_toml(text, Made)
    except ValueError:
        return {"kind": found[1]} if (found := re.search(r'^kind = "([\w-]+)"$', text, re.MULTILINE)) else {}
    return table
