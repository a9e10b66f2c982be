"""Find the labeled images most like each unlabeled one, by an encoder's pooled features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import DataError, UsageError, counted
from semiseg_cli.core.inference.feature_rows import Features
from semiseg_cli.core.ops.processes import share_of, summed, told
from semiseg_cli.core.ops.similarity import Neighbours, chunk_rows
from semiseg_cli.core.partitions.pairs import (
    Pairs,
    checked,
    describe_lists,
    folder_of,
    read_pairs,
    write_pairs,
)
from semiseg_cli.core.partitions.splits import class_pixels, nothing_known, resolve_partition
from semiseg_cli.core.training.alike import same_members
from semiseg_cli.core.training.distributed import World, sharing
from semiseg_cli.stages.building import interruptible
from semiseg_cli.stages.pictures_pairs import pairs_gallery
from semiseg_cli.stages.pooled import Pooling
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.visualize import write

K = 8
SHOWN = 12  # images of the contact sheet


def pair(
    root: Path,
    data: str,
    labeled: str,
    *,
    balance: str = "classes",
    seed: int = 0,
    encoder: str = "resnet50",
    weights: str = "auto",
    k: int | None = None,
    cosine: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write the k nearest labeled images of every unlabeled one, and a sheet that shows some; returns what and where.

    labeled, balance, seed: the partition, as for `train`. encoder: a backbone with `weights`, or a checkpoint or run.
    k: None is 8, or all that can be a neighbour where they are fewer. cosine: distances between features of length 1.
    What has been computed is not computed again: the features serve every split, the pairs every run. Several processes
    share the work; the first has the whole answer.
    Raises UsageError, DataError and CheckpointError with what to do.
    """
    with sharing(device) as world:

        def found() -> tuple[Dataset, Partition]:
            dataset = load_dataset(root, data)
            partition = resolve_partition(dataset, labeled, balance=balance, seed=seed)
            if not partition.unlabeled:
                what = f"{dataset.name} has no unlabeled image for {partition.name}"
                raise DataError(what, fix="fewer labels: --labeled N")
            return dataset, partition

        dataset, partition = same_members(found, world)
        known = _known(dataset, partition, note)
        if k is not None and not 1 <= k <= len(known):
            these = counted(len(known), "labeled image") + " with a known class" * (len(known) < len(partition.labeled))
            raise UsageError(f"{k} neighbours are not possible: {these}", fix=f"--k {len(known)}")
        pooling = Pooling.of(encoder, weights, world, note)
        return _paired(dataset, partition, known, k or min(K, len(known)), cosine, pooling, world, progress, note)


def _paired(
    dataset: Dataset, partition: Partition, known: Any, k: int, cosine: bool, pooling: Pooling, world: World,
    progress: Progress, note: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """The k nearest among the labeled images at `known`, made if they are not there. The first process writes."""
    meta = {
        "data": dataset.name, **describe_lists(partition), "partition_fingerprint": partition.fingerprint,
        "encoder": pooling.name, "encoder_fingerprint": pooling.fingerprint, "k": str(k),
        "metric": "cosine" if cosine else "euclidean", "neighbours": _sha256(known.tobytes()),
    }  # fmt: skip
    path = folder_of(dataset) / f"{_sha256(json.dumps(meta).encode())[:16]}.safetensors"
    result: dict[str, Any] = {
        "data": dataset.name, "partition": partition.name, "pairs": str(path), "encoder": pooling.line, "k": k,
        "metric": meta["metric"], "labeled": len(partition.labeled), "unlabeled": len(partition.unlabeled),
    }  # fmt: skip
    made = _made(path, partition, note) if world.main else None
    if told(made is not None)[0]:
        if made is None:
            return result
        path.touch()  # training takes the newest
        return result | {"cached": True, "encoded": 0, **_sheet(dataset, partition, made)}
    with interruptible("pairing"), progress("features", len(dataset.train)) as advance:
        features, encoded = pooling.compute(dataset.train, path.parent, world, advance=advance)
    with progress("neighbours", len(partition.unlabeled)) as advance:
        index, distance = _neighbours(dataset, partition, features, known, k, cosine, world.device, advance)
    if not world.main:
        return result
    pairs = Pairs(path, index, distance, meta)
    write_pairs(pairs)
    return result | {"cached": False, "encoded": encoded, **_sheet(dataset, partition, pairs)}


def _made(path: Path, partition: Partition, note: Callable[[str], None]) -> Pairs | None:
    """The pairs that were made before; None where there are none, or no whole ones: then they are made anew."""
    if not path.is_file():
        return None
    try:
        return checked(read_pairs(path), partition, "")
    except DataError as error:
        note(f"{error.what}: made anew ({error.why})")
        return None


def _known(dataset: Dataset, partition: Partition, note: Callable[[str], None]) -> Any:
    """Places of the labeled images with a known class: others cannot guide anything."""
    places = [
        place for place, record in enumerate(partition.labeled) if any(class_pixels(record, len(dataset.classes)))
    ]
    empty = len(partition.labeled) - len(places)
    if not places:
        raise nothing_known(empty)
    if empty:
        note(f"{empty} of {len(partition.labeled)} labeled images have no known class and are nobody's neighbour")
    return np.array(places, np.int64)


def _neighbours(
    dataset: Dataset, partition: Partition, features: Features, known: Any, k: int, cosine: bool,
    device: torch.device, advance: Callable[..., Any],
) -> tuple[Any, Any]:  # fmt: skip
    """Index and distance of the nearest labeled images, a chunk of unlabeled ones at a time, which processes share."""
    labeled, unlabeled = (
        Records.of(records).places_in(dataset.training) for records in (partition.labeled, partition.unlabeled)
    )
    search = Neighbours(features.read(labeled.at(known)).to(device), k, cosine=cosine)
    index = np.zeros((len(unlabeled), k), np.int64)
    distance = np.zeros((len(unlabeled), k), np.float32)
    step = chunk_rows(len(known))
    for start in share_of(range(0, len(unlabeled), step)):
        part = slice(start, min(start + step, len(unlabeled)))
        found, away = search(features.read(unlabeled.at(np.arange(part.start, part.stop))).to(device))
        index[part], distance[part] = known[found.cpu().numpy()], away.cpu().numpy()
        advance(len(found))
    index, distance = (summed(torch.from_numpy(x).to(device)).cpu().numpy() for x in (index, distance))
    return index, distance


def _sheet(dataset: Dataset, partition: Partition, pairs: Pairs) -> dict[str, Any]:
    """The contact sheet beside the pairs, drawn if it is not there; and the mean distance of the nearest."""
    name = pairs.path.stem
    facts = {"mean_distance": float(pairs.distance[:, 0].mean())}
    page = pairs.path.with_name(f"{name}.html")
    if page.is_file():
        return {**facts, "sheets": [str(path) for path in sorted(page.parent.glob(f"{name}-*.png"))], "page": str(page)}
    gallery, _ = pairs_gallery(dataset, partition, pairs, SHOWN, 0)
    return {**facts, **write(gallery, page.parent, name)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
