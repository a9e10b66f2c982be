"""A prepared dataset on disk: `dataset.toml` and `index.tsv`, written atomically, read without opening an image.

`dataset.toml` is written last, so that a folder that has one is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import data_root
from semiseg_cli.core.data.again import anew, first_steps, preparing
from semiseg_cli.core.data.depths import FULL, levels_of
from semiseg_cli.core.data.described import Manifest
from semiseg_cli.core.data.indexing import Indexer
from semiseg_cli.core.data.kinds import KINDS, USUAL
from semiseg_cli.core.data.lines import HEADER, record_line
from semiseg_cli.core.data.names import fingerprint, fit_for_a_file
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.data.swapped import put_all_right, put_right
from semiseg_cli.core.data.table import INDEX, IndexTable
from semiseg_cli.core.errors import DataError, UsageError, counted, did_you_mean
from semiseg_cli.core.files import digest, toml_value, whole, write_text
from semiseg_cli.core.reading import opened, read_toml, shaped

SCHEMA = 1


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared dataset."""
    return (folder / "dataset.toml").is_file()


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
    """Open `<root>/<name>`. Raises DataError where it is absent, damaged or of another schema.

    Its records are read from its index when they are asked for, and stay those of the moment in which it was opened.
    """
    folder = root / fit_for_a_file(name, "the dataset's name")
    table = manifest(folder)
    rows = IndexTable(folder, len(table["classes"]))
    return Dataset(
        name=name,
        kind=table["kind"],
        root=folder,
        classes=tuple(table["classes"]),
        palette=tuple((r, g, b) for r, g, b in table["palette"]),
        train=rows.train,
        val=rows.val,
        ignore=table["ignore"],
        licence=table["licence"],
        window=table["window"],
        long_side=table.get("source", {}).get("long_side", 0),
        levels=levels_of(table),
        block=table.get("shards", {}).get("photos", 0),
    )


def manifest(folder: Path) -> dict[str, Any]:
    """`dataset.toml` of a prepared dataset, with everything `write_dataset` was given in `extra`."""
    path = folder / "dataset.toml"
    put_right(folder)
    if not path.is_file():
        root, name = folder.parent, folder.name
        if there := elsewhere(root, name):
            raise DataError(f"no prepared dataset '{name}' in {root}", why=there, fix=f"{name} --root {data_root()}")
        known = prepared(root)
        folders = "--labeled", "DIR", "--masks", "DIR", "--classes", "FILE"
        kind, more = (name, ()) if name in KINDS else ("folder", folders)
        guess, fix = did_you_mean(name, known), preparing(name, kind, root, *more)
        similar = guess.startswith("did")
        raise DataError(
            f"no prepared dataset '{name}' in {root}",
            why="" if similar else f"prepared there: {', '.join(known) or 'nothing'}",
            fix=f"{guess}, or prepare it: {fix}" if similar else fix,
        )
    fix = anew(folder)
    try:
        table: dict[str, Any] = read_toml(path)
        if table.get("schema") != SCHEMA:
            raise DataError(f"{path} has schema {table.get('schema')}, this version reads {SCHEMA}", fix=fix)
        shaped(table, Manifest)
        if len(table["palette"]) != len(table["classes"]):
            raise ValueError(f"{counted(len(table['palette']), 'colour')} for {len(table['classes'])} classes")
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
    _write_index(dataset)
    write_text(dataset.root / "dataset.toml", to_toml(_describe(dataset) | dict(extra)), settled=True)
    (dataset.root / ".dataset.toml.old").unlink(missing_ok=True)


def _write_index(dataset: Dataset) -> None:
    """Write `index.tsv`, and beside it where its lines are.

    A description of another index is set aside first, so that they never stand side by side.
    """
    found, folder = _indexed(dataset), dataset.root
    index, description, old = folder / INDEX, folder / "dataset.toml", folder / ".dataset.toml.old"
    if index.is_file() and digest(index) == found.sha256.hexdigest():
        return
    if description.is_file():
        os.replace(description, old)
    try:
        with whole(index, settled=True) as new, new.open("wb") as text:
            text.writelines(_lines(dataset))
    except OSError:
        if old.is_file():
            os.replace(old, description)
        raise
    with opened(index) as written:
        found.save(folder, written)


def _lines(dataset: Dataset) -> Iterator[bytes]:
    yield f"{HEADER}\n".encode()
    for part, records in (("train", dataset.train), ("val", dataset.val)):
        for record in records:
            yield f"{record_line(part, record, dataset.root)}\n".encode()


def _indexed(dataset: Dataset) -> Indexer:
    """What the index says, before it is written. DataError for an id that is used twice."""
    lines, found = _lines(dataset), Indexer(len(dataset.classes))
    found.begin(next(lines))
    for line in lines:
        found.add(line)
    train, val = dataset.train, dataset.val

    def id_of(row: int) -> str:
        return (train[row] if row < len(train) else val[row - len(train)]).id

    if twice := sorted(found.twice(id_of)):
        what = f"dataset '{dataset.name}' has {counted(len(twice), 'image id')} twice"
        raise DataError(what, why=", ".join(twice[:5]))
    return found


def _describe(dataset: Dataset) -> dict[str, Any]:
    labeled, pool = dataset.labeled, dataset.pool
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
