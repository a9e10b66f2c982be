"""A dataset whose photos were moved: they are found again where they are now; masks, splits and pairs stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.again import updating
from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.index import load_dataset, manifest, write_dataset
from semiseg_cli.core.data.photos import image_size
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, UsageError


def repoint(
    root: Path,
    name: str,
    place: Path,
    photos: Mapping[str, Path],
    described: Mapping[str, Any],
    note: Callable[[str], None],
) -> None:
    """Let `<root>/<name>` take the images that lie outside of it from `photos`, by id; nothing is converted.

    place: where the photos are, for messages. described: what the dataset is made of now. Raises DataError where a
    photo is lacking, or is another one: of another size in pixels, or in bytes where the old one is still there.
    """
    dataset, folder = load_dataset(root, name), root / name
    if dataset.block:
        fix = f"{updating(folder)}; or another name: --name {name}-2"
        raise UsageError(f"the photos of {folder} are in shards", fix=fix)
    moved = [r for r in (*dataset.train, *dataset.val) if not r.image.is_relative_to(folder)]
    lacking = [record.id for record in moved if record.id not in photos]
    fix = f"name the folder that has them, or prepare what is there as another dataset: --name {name}-2"
    if lacking:
        what = f"{place} lacks {len(lacking):,} of the {len(moved):,} photos of {folder}"
        raise DataError(what, why=", ".join(lacking[:5]), fix=fix)
    found = {record.id: photos[record.id] for record in moved}
    same = on_all_cores(lambda record: _is_same(record, found[record.id]), moved)
    if other := [record.id for record, good in zip(moved, same, strict=True) if not good]:
        what = f"{place} holds other photos than those that {folder} was prepared from"
        raise DataError(what, why=f"{len(other):,} of {len(moved):,} differ in size: {', '.join(other[:5])}", fix=fix)
    train, val = (
        tuple(replace(record, image=found.get(record.id, record.image)) for record in records)
        for records in (dataset.train, dataset.val)
    )
    source = {"source": dict(described), "notes": manifest(folder).get("notes", [])}
    write_dataset(replace(dataset, train=train, val=val), source)
    if moved:
        note(f"{folder}: its {len(moved):,} photos are taken from {place}; masks and splits stay as they are")


def _is_same(record: Record, photo: Path) -> bool:
    """Whether a photo can be the one of a record."""
    try:
        same = image_size(photo) == (record.height, record.width)
        return same and (not record.image.is_file() or record.image.stat().st_size == photo.stat().st_size)
    except (DataError, OSError):
        return False
