"""Own partitions, written below `<dataset>/splits` so that people can look at them, and listed from there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from semiseg_cli.core.data.index import load_dataset, prepared
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.data.splits import class_pixels, resolve_partition
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.files import write_text


@dataclass(frozen=True)
class ClassCount:
    """How much of a class the labeled images of a partition show."""

    name: str
    images: int
    pixels: int
    images_available: int  # in all images of the dataset that have a mask


@dataclass(frozen=True)
class Split:
    """A partition, where its lists are, and its class counts."""

    partition: Partition
    folder: Path
    counts: tuple[ClassCount, ...]


def make_split(root: Path, data: str, labeled: str, *, balance: str = "classes", seed: int = 0) -> Split:
    """Draw a partition of `<root>/<data>` and write it; the same arguments give the same files again.

    labeled: a count ("23") or a fraction ("1/8"), else UsageError. DataError where there are too few labeled images.
    """
    if not re.fullmatch(r"\d+(/\d+)?", labeled):
        raise UsageError(f"'{labeled}' is neither a count nor a fraction", fix="semiseg split --labeled 1/8")
    dataset = load_dataset(root, data)
    partition = resolve_partition(dataset, labeled, balance=balance, seed=seed)
    folder = dataset.root / "splits" / f"{len(partition.labeled)}-{balance}-s{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("unlabeled", "labeled"):  # a folder with a labeled.txt is complete
        write_text(folder / f"{kind}.txt", "".join(f"{record.id}\n" for record in getattr(partition, kind)))
    return Split(partition, folder, class_counts(dataset, partition))


def class_counts(dataset: Dataset, partition: Partition) -> tuple[ClassCount, ...]:
    """Images and pixels of every class in the labeled images of a partition."""
    of = [class_pixels(record, len(dataset.classes)) for record in partition.labeled]
    all_of = [class_pixels(record, len(dataset.classes)) for record in dataset.labeled]
    return tuple(
        ClassCount(
            name,
            images=sum(pixels[k] > 0 for pixels in of),
            pixels=sum(pixels[k] for pixels in of),
            images_available=sum(pixels[k] > 0 for pixels in all_of),
        )
        for k, name in enumerate(dataset.classes)
    )


def list_splits(root: Path, data: str = "") -> list[tuple[str, str, Partition]]:
    """The partitions written for a dataset, or for all of them: (dataset, name, partition), sorted."""
    found = []
    for name in [data] if data else prepared(root):
        dataset = load_dataset(root, name)
        for file in sorted((dataset.root / "splits").glob("*/labeled.txt")):
            found.append((name, file.parent.name, resolve_partition(dataset, str(file.parent))))
    return found
