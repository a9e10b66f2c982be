"""Partitions written below `<dataset>/splits`, so that people can look at them, and all that can be had."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg_cli.core.data.again import preparing
from semiseg_cli.core.data.index import load_dataset, prepared
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.data.view import MANY
from semiseg_cli.core.errors import DataError, UsageError, did_you_mean
from semiseg_cli.core.files import write_text
from semiseg_cli.core.partitions.protocols import Published, protocols, published, recognise, repositories
from semiseg_cli.core.partitions.splits import ask, class_pixels, draw, from_lists, resolve_partition


@dataclass(frozen=True)
class ClassCount:
    """How much of a class the labeled images of a partition show."""

    name: str
    images: int
    pixels: int
    images_available: int  # in all images of the dataset that have a mask


@dataclass(frozen=True)
class Split:
    """A partition, where its lists are, its class counts, and the options of `train` that mean it."""

    partition: Partition
    folder: Path
    counts: tuple[ClassCount, ...]
    options: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """A partition that can be had. `words` are for --labeled; `partition` is None where its lists are not at hand."""

    data: str
    words: str
    partition: Partition | None
    published: Published | None
    how: str  # to get it, or what is wrong with it; empty where it is at hand


def make_split(
    root: Path, data: str, labeled: str, *, protocol: str = "", balance: str = "classes", seed: int = 0
) -> Split:
    """Draw an own partition and write its lists; the same partition gets the same folder, and the same files again.

    labeled: a count ("23") or a fraction ("1/8"), else UsageError. protocol: draws from that protocol's images.
    DataError where there are too few labeled images.
    """
    dataset = load_dataset(root, data)
    words = f"{_protocol(dataset, protocol)}/{labeled}" if protocol else labeled
    asked = ask(dataset, words)
    partition = draw(dataset, asked, balance=balance, seed=seed)
    head = f"{asked.protocol.name}-" if asked.protocol else ""
    folder = dataset.root / "splits" / f"{head}{len(partition.labeled)}-{balance}-s{seed}"
    write_lists(folder, partition)
    settings = {"data.split_seed": seed or None, "data.balance": balance if balance != "classes" else None}
    again = [word for name, value in settings.items() if value is not None for word in ("-s", f"{name}={value}")]
    meant = resolve_partition(dataset, words, balance=balance, seed=seed)  # a list at hand goes before a draw
    options = ("-l", words, *again) if meant.fingerprint == partition.fingerprint else ("-l", folder.name)
    return Split(partition, folder, class_counts(dataset, partition), options)


def make_recipes(root: Path, data: str, protocol: str) -> list[Split]:
    """An own partition of every size that a protocol has, each with the seed and the sampler of its recipe."""
    dataset = load_dataset(root, data)
    name = _protocol(dataset, protocol)
    chosen = next(each for each in protocols(dataset.kind) if each.name == name)
    return [
        make_split(root, data, str(each.labeled), protocol=protocol, balance=each.sampler, seed=each.seed)
        for each in chosen.recipes
    ]


def write_lists(folder: Path, partition: Partition) -> None:
    """`unlabeled.txt`, then `labeled.txt`: a folder that has the latter is complete.

    More than MANY unlabeled images are not listed. They are all training images but the labeled ones, which a folder
    without their list means.
    """
    if len(partition.unlabeled) > MANY:
        (folder / "unlabeled.txt").unlink(missing_ok=True)
    else:
        write_list(folder / "unlabeled.txt", [record.id for record in partition.unlabeled])
    write_list(folder / "labeled.txt", [record.id for record in partition.labeled])


def write_list(file: Path, ids: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(f"{id}\n" for id in ids))


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


def list_splits(root: Path, data: str = "") -> list[Known]:
    """The partitions at hand for a dataset, or for all of them, each followed by the published ones that are not.

    Those of voc and cityscapes are listed before anything is prepared.
    """
    names = prepared(root)
    if (data or not names) and data not in names and (known := published(data)):
        return [Known(each.data, each.words, None, each, preparing(each.data, each.data, root)) for each in known]
    return [known for name in ([data] if data else names) for known in _of_dataset(load_dataset(root, name))]


def _of_dataset(dataset: Dataset) -> list[Known]:
    found, splits = list[Known](), dataset.root / "splits"
    for file in sorted(splits.rglob("labeled.txt")):
        words = file.parent.relative_to(splits).as_posix()
        try:
            with warnings.catch_warnings(action="ignore"):  # the counts are shown
                partition = from_lists(dataset, file.parent)
            found.append(Known(dataset.name, words, partition, recognise(partition.fingerprint), ""))
        except DataError as error:
            found.append(Known(dataset.name, words, None, None, f"unusable: {error.why or error.what}"))
    here = {each.published.sha256 for each in found if each.published}
    fetched = {each.words: f"--fetch {word}" for word, where in repositories().items() for each in where.lists}
    missing = [each for each in published(dataset.kind) if each.sha256 not in here]
    return found + [
        Known(dataset.name, each.words, None, each, fetched.get(each.words, "--import DIR")) for each in missing
    ]


def _protocol(dataset: Dataset, name: str) -> str:
    known = [protocol.name for protocol in protocols(dataset.kind)]
    if name not in known:
        what = f"there is no protocol '{name}' for {dataset.name}"
        raise UsageError(what, fix=did_you_mean(name, known) if known else "leave --protocol out")
    return name
