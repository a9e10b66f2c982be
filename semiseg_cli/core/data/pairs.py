"""The labeled images most like each unlabeled one: the files that `semiseg pair` writes and training reads.

`<dataset>/pairs/<name>.safetensors` holds `index` int64 (U, k), places in the list of labeled images, and `distance`
float32 (U, k), nearest first. Its metadata name the dataset, the partition, both lists by fingerprint, and the encoder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.settings import Config

SCHEMA = "1"


@dataclass(frozen=True)
class Pairs:
    """What a file says. Both arrays have a row for every unlabeled image of the partition, in its order."""

    path: Path
    index: np.ndarray[Any, np.dtype[np.int64]]
    distance: np.ndarray[Any, np.dtype[np.float32]]
    meta: Mapping[str, str]

    @property
    def nearest(self) -> tuple[int, ...]:
        """For every unlabeled image the place of its nearest labeled one."""
        places: list[int] = self.index[:, 0].tolist()
        return tuple(places)


def order_of(records: Sequence[Record]) -> str:
    """sha256 of the ids in their order, a line each: places in the list mean the same images."""
    return hashlib.sha256("".join(f"{record.id}\n" for record in records).encode()).hexdigest()


def describe_lists(partition: Partition) -> dict[str, str]:
    """What the metadata say of a partition's lists."""
    return {
        "partition": partition.name,
        "labeled": order_of(partition.labeled),
        "unlabeled": order_of(partition.unlabeled),
    }


def folder_of(dataset: Dataset) -> Path:
    return dataset.root / "pairs"


def write_pairs(pairs: Pairs) -> None:
    """Write the file whole or not at all. Raises DataError where it cannot be written."""
    name = None
    try:
        pairs.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=pairs.path.parent, prefix=f".{pairs.path.name}.")
        os.close(handle)
        save_file({"index": pairs.index, "distance": pairs.distance}, name, {"schema": SCHEMA, **pairs.meta})
        os.chmod(name, 0o644)
        os.replace(name, pairs.path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot write {pairs.path}", why=str(error), fix="free some disk space") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def read_pairs(path: Path) -> Pairs:
    """Raises DataError for a file that is absent, damaged or something else."""
    fix = "make it with semiseg pair"
    if not path.is_file():
        raise DataError(f"there is no pairs file {path}", fix=fix)
    try:
        with safe_open(str(path), "np") as file:
            meta = file.metadata() or {}
            if meta.get("schema") != SCHEMA or "labeled" not in meta:
                raise DataError(f"{path} is a safetensors file, but not one of pairs", fix=fix)
            return Pairs(path, file.get_tensor("index"), file.get_tensor("distance"), meta)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read {path}", why=f"truncated or not a safetensors file ({error})", fix=fix) from error


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
    command: what would make them. Raises DataError with it where there are none, or the file is of another partition.
    """
    lists = describe_lists(partition)

    def fits(meta: Mapping[str, str]) -> bool:
        return all(meta.get(key) == lists[key] for key in ("labeled", "unlabeled"))

    if named:
        inside = folder_of(dataset) / named
        pairs = read_pairs(inside if inside.is_file() else Path(named))
        if not fits(pairs.meta):
            raise DataError(
                f"the pairs in {named} are those of another split",
                why=f"made for: {pairs.meta.get('partition')}; this is: {partition.name}",
                fix=command,
            )
        return pairs
    found = [(path.stat().st_mtime_ns, path) for path in folder_of(dataset).glob("*.safetensors")]
    others = []
    for _, path in sorted(found, reverse=True):
        pairs = read_pairs(path)
        if fits(pairs.meta):
            return pairs
        others.append(pairs.meta.get("partition", ""))
    raise DataError(
        f"no pairs of similar images for this split of {dataset.name}: {partition.name}",
        why=f"those in {folder_of(dataset)} are for: {'; '.join(sorted(set(others)))}" if others else "none were made",
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
