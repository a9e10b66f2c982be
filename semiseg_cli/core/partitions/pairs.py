"""The labeled images most like each unlabeled one: the files that `semiseg pair` writes and training reads.

`<dataset>/pairs/<name>.safetensors` holds `index` int64 (U, k), places in the list of labeled images, and `distance`
float32 (U, k), nearest first. Its metadata name the dataset, the partition, both lists and the image files by
fingerprint, and the encoder.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from semiseg_cli.core.data.shards import state_of
from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.data.view import MANY, Records
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.files import whole
from semiseg_cli.core.settings import Config
from semiseg_cli.core.tensors import read_tensors

SCHEMA = "2"


class Foreign(DataError):
    """A whole safetensors file, but none of pairs, or one of another version's."""


@dataclass(frozen=True)
class Pairs:
    """What a file says. Both arrays have a row for every unlabeled image of the partition, in its order."""

    path: Path
    index: np.ndarray[Any, np.dtype[np.int64]]
    distance: np.ndarray[Any, np.dtype[np.float32]]
    meta: Mapping[str, str]

    @property
    def encoder(self) -> str:
        return self.meta.get("encoder", "unknown encoder")

    @property
    def metric(self) -> str:
        return self.meta.get("metric", "unknown metric")

    @property
    def nearest(self) -> tuple[int, ...]:
        """For every unlabeled image the place of its nearest labeled one."""
        places: list[int] = self.index[:, 0].tolist()
        return tuple(places)


def order_of(records: Sequence[Record]) -> str:
    """sha256 of the ids in their order, a line each: places in the list mean the same images.

    Of more than MANY images the index that they are in and their rows stand for them.
    """
    records = Records.of(records)
    if len(records) > MANY and records.mark:
        return records.mark
    return hashlib.sha256("".join(f"{record.id}\n" for record in records).encode()).hexdigest()


def files_of(*lists: Sequence[Record]) -> str:
    """sha256 of the ids, sizes and times of image files: another file of the same name is another image.

    Of more than MANY images the index stands for them: so many files are not asked. Raises DataError for a file that
    is not there.
    """
    digest, marks = hashlib.sha256(), [Records.of(records).mark for records in lists if records]
    if sum(map(len, lists)) > MANY and all(marks):
        return hashlib.sha256("\n".join(marks).encode()).hexdigest()
    for record in chain(*lists):
        try:
            state = state_of(record.image)
        except OSError as error:
            fix = "put it back, or prepare the dataset again"
            raise DataError(f"cannot read {record.image}", why=error.strerror or str(error), fix=fix) from error
        digest.update(f"{record.id} {state[0]} {state[1]}\n".encode())
    return digest.hexdigest()


def describe_lists(partition: Partition) -> dict[str, str]:
    """What the metadata say of a partition's lists and images."""
    return {
        "partition": partition.name,
        "labeled": order_of(partition.labeled),
        "unlabeled": order_of(partition.unlabeled),
        "images": files_of(partition.labeled, partition.unlabeled),
    }


def folder_of(dataset: Dataset) -> Path:
    return dataset.root / "pairs"


def write_pairs(pairs: Pairs) -> None:
    """Write the file whole or not at all. Raises DataError where it cannot be written."""
    try:
        pairs.path.parent.mkdir(parents=True, exist_ok=True)
        with whole(pairs.path) as new:
            save_file({"index": pairs.index, "distance": pairs.distance}, new, {"schema": SCHEMA, **pairs.meta})
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot write {pairs.path}", why=str(error), fix="free some disk space") from error


def read_pairs(path: Path, fix: str = "make it with semiseg pair") -> Pairs:
    """Raises DataError with `fix` for a file that is absent or damaged, Foreign for something else."""
    if not path.is_file():
        raise DataError(f"there is no pairs file {path}", fix=fix)
    try:
        tensors, meta = read_tensors(path)
        if meta.get("schema") != SCHEMA or "labeled" not in meta:
            why = f"its schema is {meta.get('schema')}, not {SCHEMA}"
            raise Foreign(f"{path} is a safetensors file, but not one of pairs as written now", why=why, fix=fix)
        if lacks := {"index", "distance"} - tensors.keys():
            raise ValueError(f"it lacks {', '.join(sorted(lacks))}")
        return Pairs(path, tensors["index"].numpy(), tensors["distance"].numpy(), meta)
    except Foreign:
        raise
    except (OSError, ValueError, TypeError) as error:  # the last: NumPy has no bfloat16
        raise DataError(f"cannot read {path}", why=f"truncated or not a safetensors file ({error})", fix=fix) from error


def checked(pairs: Pairs, partition: Partition, fix: str) -> Pairs:
    """The pairs, if their arrays are what `Pairs` says. Raises DataError with `fix` where they are not."""
    index, distance = pairs.index, pairs.distance
    rows, labeled = len(partition.unlabeled), len(partition.labeled)
    if index.dtype != np.int64 or index.ndim != 2 or len(index) != rows or index.shape[1] == 0:
        why = f"index is {index.dtype} {index.shape}, not int64 ({rows}, k)"
    elif ((index < 0) | (index >= labeled)).any():
        why = f"index names places {index.min()} to {index.max()} of {labeled} labeled images"
    elif distance.dtype != np.float32 or distance.shape != index.shape:
        why = f"distance is {distance.dtype} {distance.shape}, not float32 {index.shape}"
    else:
        return pairs
    raise DataError(f"the pairs in {pairs.path} are damaged", why=why, fix=fix)


def pairs_of(config: Config, dataset: Dataset, partition: Partition) -> Pairs:
    """The pairs that a configuration asks for, as `find_pairs`; its errors name the command that would make them."""
    data, model = config.data, config.model
    command = command_for(
        dataset, data.labeled, balance=data.balance, seed=config.split_seed, encoder=model.backbone,
        weights=model.weights,
    )  # fmt: skip
    return find_pairs(dataset, partition, data.pairs, command)


def find_pairs(dataset: Dataset, partition: Partition, named: str, command: str) -> Pairs:
    """The pairs of a partition: of the file `named`, or where that is empty the newest file of these lists.

    named: a path, or a name in the dataset's folder of pairs.
    command: what would make them. Raises DataError with it where there are none, or the file is damaged, of another
    partition, or of images that have changed since.
    """
    lists = describe_lists(partition)

    def other(meta: Mapping[str, str]) -> str:
        """What a file is for; empty where it is for these lists and images."""
        if any(meta.get(key) != lists[key] for key in ("labeled", "unlabeled")):
            return meta.get("partition") or "an unnamed split"
        return "" if meta.get("images") == lists["images"] else f"{partition.name} before its image files changed"

    if named:
        inside = folder_of(dataset) / named
        pairs = read_pairs(inside if inside.is_file() else Path(named), command)
        if made_for := other(pairs.meta):
            raise DataError(
                f"the pairs in {named} are those of another split or of other images",
                why=f"made for: {made_for}; this is: {partition.name}; without data.pairs the newest fit is taken",
                fix=command,
            )
        return checked(pairs, partition, command)
    found = [(path.stat().st_mtime_ns, path) for path in folder_of(dataset).glob("*.safetensors")]
    others = set()
    for _, path in sorted(found, reverse=True):
        anew = f"{shlex.join(['rm', str(path)])} && {command}"  # the command alone may write another file
        try:
            pairs = read_pairs(path, anew)
        except Foreign:
            others.add("another version of semiseg")
            continue
        if made_for := other(pairs.meta):
            others.add(made_for)
            continue
        return checked(pairs, partition, anew)
    raise DataError(
        f"no pairs of similar images for this split of {dataset.name}: {partition.name}",
        why=f"those in {folder_of(dataset)} are for: {'; '.join(sorted(others))}" if others else "none were made",
        fix=command,
    )


def command_for(dataset: Dataset, labeled: str, *, balance: str, seed: int, encoder: str, weights: str) -> str:
    """The `semiseg pair` command line for a partition; what it would take anyway is left out."""
    words = ["semiseg", "pair", dataset.name]
    options = {
        "--labeled": (labeled, ""), "--balance": (balance, "classes"), "--seed": (str(seed), "0"),
        "--encoder": (encoder, "resnet50"), "--weights": (weights, "auto"),
        "--root": (str(dataset.root.parent), "data"),
    }  # fmt: skip
    for option, (value, default) in options.items():
        words += [option, value] if value != default else []
    return shlex.join(words)
