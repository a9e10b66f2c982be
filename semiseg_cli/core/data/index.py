"""A prepared dataset on disk: `dataset.toml` and `index.tsv`, written atomically, read without opening an image.

`dataset.toml` is written last, so that a folder that has one is complete.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from semiseg_cli.core.commands import data_root
from semiseg_cli.core.data.again import anew, first_steps, preparing
from semiseg_cli.core.data.depths import FULL, levels_of
from semiseg_cli.core.data.kinds import KINDS, USUAL
from semiseg_cli.core.data.names import fingerprint, fit_for_a_file, unfit
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.swapped import put_all_right, put_right
from semiseg_cli.core.errors import DataError, UsageError, did_you_mean
from semiseg_cli.core.files import toml_value, write_text
from semiseg_cli.core.reading import WHOLE, Level, Side, read_text, read_toml, shaped

SCHEMA = 1
LONGEST = 1 << 20  # pixels of a side
COLUMNS = ("id", "part", "image", "mask", "height", "width", "pixels")


class Source(TypedDict, total=False):
    long_side: Side


class Manifest(TypedDict):
    """What `dataset.toml` says that is read."""

    schema: int
    kind: str
    classes: list[str]
    palette: list[tuple[Level, Level, Level]]
    ignore: Level
    licence: str
    window: Side
    levels: NotRequired[tuple[int, int]]
    source: NotRequired[Source]
    notes: NotRequired[list[str]]
    counts: NotRequired[dict[str, int]]


def prepared(root: Path) -> list[str]:
    """Names of the datasets below the data root, sorted; none where the root does not exist."""
    put_all_right(root)
    return sorted(path.parent.name for path in root.glob("*/dataset.toml") if not path.parent.name.startswith("."))


def default_name(root: Path) -> str:
    """The dataset meant where none is named: the only prepared one, else the usual benchmark.

    Raises DataError where there is none, UsageError where there are several and that is not among them.
    """
    names = prepared(root)
    if not names:
        raise DataError(f"nothing is prepared in {root}", why=elsewhere(root), fix=first_steps(root))
    if len(names) == 1:
        return names[0]
    if USUAL not in names:
        fix = f"name one, such as {names[0]}"
        raise UsageError(f"several datasets are prepared in {root}", why=", ".join(names), fix=fix)
    return USUAL


def elsewhere(root: Path, name: str = "") -> str:
    """Whether what is not below this root is below the usual one; empty where it is not."""
    there = [] if root.absolute() == data_root().absolute() else prepared(data_root())
    if name:
        return f"it is prepared in {data_root()}" if name in there else ""
    return f"prepared in {data_root()}: {', '.join(there)}" if there else ""


def load_dataset(root: Path, name: str) -> Dataset:
    """Read `<root>/<name>`. Raises DataError where it is absent, damaged or of another schema."""
    folder = root / fit_for_a_file(name, "the dataset's name")
    table = manifest(folder)
    index, place = folder / "index.tsv", 1
    try:
        lines = read_text(index, most=WHOLE).split("\n")
        if lines[0].split("\t") != list(COLUMNS) or lines[-1]:
            raise ValueError("its header or its last line is not as written")
        rows = list[tuple[str, Record]]()
        for place, line in enumerate(lines[1:-1], 2):  # noqa: B007  (it names the line of an error)
            rows.append(parse_record(line, folder, len(table["classes"])))
        if len({record.id for _, record in rows}) < len(rows):
            raise ValueError("ids stand there twice")
    except (OSError, ValueError) as error:
        what, where = f"the dataset in {folder} is damaged", f"{index.name}, line {place}"
        raise DataError(what, why=f"{where}: {error}", fix=anew(folder)) from error
    return Dataset(
        name=name,
        kind=table["kind"],
        root=folder,
        classes=tuple(table["classes"]),
        palette=tuple((r, g, b) for r, g, b in table["palette"]),
        train=tuple(record for part, record in rows if part == "train"),
        val=tuple(record for part, record in rows if part == "val"),
        ignore=table["ignore"],
        licence=table["licence"],
        window=table["window"],
        long_side=table.get("source", {}).get("long_side", 0),
        levels=levels_of(table),
    )


def manifest(folder: Path) -> dict[str, Any]:
    """`dataset.toml` of a prepared dataset, with everything `write_dataset` was given in `extra`."""
    path = folder / "dataset.toml"
    put_right(folder)
    if not path.is_file():
        root, name = folder.parent, folder.name
        known = prepared(root)
        kind, more = (name, ()) if name in KINDS else ("folder", ("--help",))
        guess, fix = did_you_mean(name, known), preparing(name, kind, root, *more)
        similar = guess.startswith("did")
        raise DataError(
            f"no prepared dataset '{name}' in {root}",
            why=elsewhere(root, name) or ("" if similar else f"prepared there: {', '.join(known) or 'nothing'}"),
            fix=f"{guess}, or prepare it: {fix}" if similar else fix,
        )
    fix = anew(folder)
    try:
        table: dict[str, Any] = read_toml(path)
        if table.get("schema") != SCHEMA:
            raise DataError(f"{path} has schema {table.get('schema')}, this version reads {SCHEMA}", fix=fix)
        shaped(table, Manifest)
        if len(table["palette"]) != len(table["classes"]):
            raise ValueError(f"{len(table['palette'])} colours for {len(table['classes'])} classes")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read", why=str(error), fix=fix) from error
    return table


def write_dataset(dataset: Dataset, extra: Mapping[str, Any]) -> None:
    """Write both files into `dataset.root`; a file that already says the same is left alone.

    extra: further entries of `dataset.toml` (TOML types), such as where the dataset came from.
    """
    dataset.root.mkdir(parents=True, exist_ok=True)
    rows = [(part, record) for part in ("train", "val") for record in getattr(dataset, part)]
    ids = [record.id for _, record in rows]
    if len(set(ids)) != len(ids):
        twice = sorted({id for id in ids if ids.count(id) > 1})
        raise DataError(f"{len(twice)} image ids are used twice in dataset '{dataset.name}'", why=", ".join(twice[:5]))
    lines = ["\t".join(COLUMNS), *(record_line(part, record, dataset.root) for part, record in rows)]
    _write_index(dataset.root, "\n".join(lines) + "\n")
    write_text(dataset.root / "dataset.toml", to_toml(_describe(dataset) | dict(extra)), settled=True)
    (dataset.root / ".dataset.toml.old").unlink(missing_ok=True)


def _write_index(folder: Path, text: str) -> None:
    """Write `index.tsv`; a description of another index is set aside first, so that they never stand side by side."""
    index, description, old = folder / "index.tsv", folder / "dataset.toml", folder / ".dataset.toml.old"
    if index.is_file() and index.read_bytes() == text.encode("utf-8"):
        return
    if description.is_file():
        os.replace(description, old)
    try:
        write_text(index, text, settled=True)
    except OSError:
        if old.is_file():
            os.replace(old, description)
        raise


def _describe(dataset: Dataset) -> dict[str, Any]:
    labeled = dataset.labeled
    pool = [record for record in dataset.train if record.mask is None]
    counted = [record.pixels for record in labeled if record.pixels]
    pixels = [sum(column) for column in zip(*counted, strict=True)] or [0] * len(dataset.classes)
    return {
        "schema": SCHEMA,
        "name": dataset.name,
        "kind": dataset.kind,
        "classes": dataset.classes,
        "palette": dataset.palette,
        "ignore": dataset.ignore,
        "licence": dataset.licence,
        "window": dataset.window,
        **({"levels": dataset.levels} if dataset.levels != FULL else {}),
        "counts": {"labeled": len(labeled), "unlabeled": len(pool), "val": len(dataset.val)},
        "pixels": dict(zip(dataset.classes, pixels, strict=True)),
        "fingerprints": {
            "labeled": fingerprint(record.id for record in labeled),
            "unlabeled": fingerprint(record.id for record in pool),
            "val": fingerprint(record.id for record in dataset.val),
        },
    }


def record_line(part: str, record: Record, folder: Path) -> str:
    """A record as a line of `index.tsv`, without its end; DataError where a file name cannot stand in one."""
    mask = _relative(record.mask, folder) if record.mask else "-"
    pixels = " ".join(map(str, record.pixels)) if record.pixels else "-"
    fields = (record.id, part, _relative(record.image, folder), mask, record.height, record.width, pixels)
    line = "\t".join(map(str, fields))
    if line.count("\t") != len(COLUMNS) - 1 or "\n" in line:
        raise DataError(f"{record.image!s:.200} has a tab or a line break in its name", fix="rename the file")
    return line


def parse_record(line: str, folder: Path, classes: int = 0) -> tuple[str, Record]:
    """The part and the record of a line. Raises ValueError for a line that is not as `record_line` writes it.

    classes: so many pixels of a class there are; 0: it is not known.
    """
    id, part, image, mask, height, width, pixels = line.split("\t")
    if wrong := unfit(id) or ("has no part train or val" if part not in ("train", "val") else ""):
        raise ValueError(f"the image {id[:60]!r} {wrong}")
    if "\0" in line:
        raise ValueError(f"a path of {id[:60]!r} has a zero in it")
    counts = () if pixels == "-" else tuple(map(int, pixels.split(" ")))
    size = int(height), int(width)
    if not (min(size) > 0 and max(size) <= LONGEST):
        raise ValueError(f"{id[:60]!r} has {size[0]} x {size[1]} pixels")
    if min(counts, default=0) < 0 or (classes and len(counts) not in (0, classes)):
        raise ValueError(f"{id[:60]!r} has pixels of {len(counts)} classes: {pixels[:60]}")
    path = None if mask == "-" else _absolute(mask, folder)
    return part, Record(id, _absolute(image, folder), path, *size, counts)


def _relative(path: Path, folder: Path) -> str:
    """Relative below the dataset's folder or the data root, so that the data root can be moved; else absolute."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(folder)).parent
    return f"../{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else path.as_posix()


def _absolute(name: str, folder: Path) -> Path:
    base, name = (folder.parent, name[3:]) if name.startswith("../") else (folder, name)
    return Path(os.path.join(base, name))  # half the time of base / name


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """TOML of nested mappings whose leaves are strings, numbers, booleans and sequences of these."""
    lines = [f"{_key(key)} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            lines += ["", f"[{name}]", to_toml(value, f"{name}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key and all(char.isascii() and (char.isalnum() or char in "_-") for char in key) else toml_value(key)
