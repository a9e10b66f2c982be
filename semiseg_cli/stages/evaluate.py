"""Evaluate a checkpoint: its metadata names its data, classes, normalisation and window, so a path is enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.again import at_hand, naming_bad_files
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import workers_for
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError, did_you_mean
from semiseg_cli.core.files import network_of
from semiseg_cli.core.inference.evaluation import Evaluation, evaluate, head_and_tail
from semiseg_cli.core.inference.metrics import METRICS, NOTHING_MORE, Asked
from semiseg_cli.core.inference.options import AS_TRAINED, Inference
from semiseg_cli.core.inference.predictor import CPU_PIXELS, Predictor
from semiseg_cli.core.partitions.titles import recorded
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.alike import one_folder, same_dataset, same_file
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World, sharing
from semiseg_cli.core.training.threads import take_threads
from semiseg_cli.stages.progress import Progress, silent

SPLITS = ("val", "train")


def evaluate_checkpoint(
    path: Path,
    how: Inference = AS_TRAINED,
    *,
    root: Path | None = None,
    data: str = "",
    split: str = "val",
    asked: Asked = NOTHING_MORE,
    save: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """The result of `semiseg eval` as plain values: percentages, and what was measured on what.

    path: a checkpoint, or a run directory (its best network, else its last). root: None is where the run's dataset is
    found. data: another prepared dataset than the checkpoint's, with the same classes. split: val, or train for all
    training images that have a mask. Several processes share the images; each returns the result of all.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split '{split}'", fix=did_you_mean(split, SPLITS))
    with sharing(device) as world:
        return _evaluate(network_of(path), how, root, data, split, asked, save, world, progress)


def _evaluate(
    path: Path, how: Inference, root: Path | None, data: str, split: str, asked: Asked, save: Path | None,
    world: World, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    place = world.device
    same_file(path, world)
    net, meta = load_network(path, place)
    take_threads(meta["config"].get("train.threads", 0), net, CPU_PIXELS, place)
    name = data or meta["data"]["name"]
    dataset = same_dataset(lambda: at_hand(load_dataset(find_root(name, root, path), name)), world)
    if save is not None:
        one_folder(save, world)
    same_classes(dataset, meta["data"]["classes"], path)
    predictor = Predictor.of(net, meta, place, how, dataset.window if data else None)
    if how.stride is not None and not predictor.window:
        raise UsageError(
            "--stride is the step of a window, and whole images are shown to this network",
            fix=f"--window SIDE --stride {how.stride:g}, or no --stride",
        )
    records = [record for record in getattr(dataset, split) if record.mask is not None]
    workers = _workers(records) if place.type == "cuda" else 0
    mine = -(-len(records) // world.size)
    with naming_bad_files(dataset), progress(f"evaluating {dataset.name} {split}", mine) as advance:
        found = evaluate(predictor, dataset, records, asked=asked, workers=workers, progress=advance, save=save)
    what = {"images": found.images, "checkpoint": str(path), "data": dataset.name, "split": split}
    return _measured(found) | what | _of_checkpoint(meta) | _manner(predictor, asked)


def _measured(found: Evaluation) -> dict[str, Any]:
    """Every metric by its name, None where it was not asked for; and the classes by how frequent they are."""
    halves = head_and_tail(found.by_class["iou"], found.frequency)
    unasked = dict.fromkeys(metric.name for metric in METRICS)
    return unasked | found.metrics | {"frequency": found.frequency, "by_frequency": halves}


def _of_checkpoint(meta: dict[str, Any]) -> dict[str, Any]:
    partition = meta["partition"]
    return {
        "method": meta["method"],
        "step": meta["step"],
        "partition": recorded(partition),
        "fingerprint": partition["fingerprint"],
        "protocol": partition.get("protocol", ""),
    }


def _manner(predictor: Predictor, asked: Asked) -> dict[str, Any]:
    return {
        "window": predictor.window,
        "long_side": predictor.long_side,
        "stride": predictor.stride if predictor.window else None,
        "scales": list(predictor.scales),
        "flip": predictor.flip,
        "absent_as_zero": asked.absent_as_zero,
        "absent_as_one": asked.absent_as_one,
    }


def same_classes(dataset: Dataset, classes: Sequence[str], path: Path) -> None:
    """Raise DataError, naming the difference, unless the dataset has the checkpoint's classes in its order."""
    ours, theirs = list(dataset.classes), list(classes)
    if ours == theirs:
        return
    lacks = [name for name in theirs if name not in ours]
    extra = [name for name in ours if name not in theirs]
    parts = [f"it lacks {', '.join(lacks)}"] * bool(lacks) + [f"it has {', '.join(extra)} besides"] * bool(extra)
    raise DataError(
        f"dataset {dataset.name} has other classes than {path} was trained on",
        why="; ".join(parts) or f"the order differs: {', '.join(ours)} against {', '.join(theirs)}",
        fix="name the dataset it was trained on, or prepare one with these classes: --data NAME",
    )


def _workers(records: Sequence[Record]) -> int:
    return workers_for(-1, len(records), max((r.height * r.width for r in records), default=0))
