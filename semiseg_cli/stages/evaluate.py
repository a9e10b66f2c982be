"""Evaluate a checkpoint: its metadata names its data, classes, normalisation and window, so a path is enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import workers_for
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError, did_you_mean
from semiseg_cli.core.files import resuming
from semiseg_cli.core.inference.evaluation import evaluate, head_and_tail, in_bfloat16, resolve_window
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import join
from semiseg_cli.stages.progress import Progress, silent

SPLITS = ("val", "train")


def evaluate_checkpoint(
    path: Path,
    *,
    root: Path | None = None,
    data: str = "",
    split: str = "val",
    window: str = "auto",
    stride: float | None = None,
    batch: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    boundary: bool = False,
    absent_as_zero: bool = False,
    save: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """The result of `semiseg eval` as plain values: percentages, and what was measured on what.

    path: a checkpoint, or a run directory (its best network, else its last). root: None is where the run's dataset is
    found. data: another prepared dataset than the
    checkpoint's, with the same classes. split: val, or train for all training images that have a mask. window: auto,
    none or pixels; auto, and a stride or batch of None, are as during training.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split '{split}'", fix=did_you_mean(split, SPLITS))
    check_options(stride, batch, scales)
    path = find_checkpoint(path)
    place = join(device).device
    net, meta = load_network(path, place)
    config = meta["config"]
    name = data or meta["data"]["name"]
    dataset = load_dataset(find_root(name, root, path), name)
    same_classes(dataset, meta["data"]["classes"], path)
    records = [record for record in getattr(dataset, split) if record.mask is not None]
    if window == "auto":
        window = config["eval.window"]
    side = resolve_window(window, dataset.window if data else meta["data"]["window"])
    stride = config["eval.stride"] if stride is None else stride
    with progress(f"evaluating {dataset.name} {split}", len(records)) as advance:
        found = evaluate(
            net,
            dataset,
            records,
            mean=meta["normalise"]["mean"],
            std=meta["normalise"]["std"],
            device=place,
            window=side,
            stride=stride,
            batch=config["eval.batch"] if batch is None else batch,
            scales=scales,
            flip=flip,
            boundary=boundary,
            absent_as_zero=absent_as_zero,
            amp=in_bfloat16(config["train.amp"], place),
            workers=_workers(records) if place.type == "cuda" else 0,
            progress=advance,
            save=save,
        )
    return {
        "miou": found.miou,
        "iou": found.iou,
        "frequency": found.frequency,
        "by_frequency": head_and_tail(found.iou, found.frequency),
        "pixel_accuracy": found.pixel_accuracy,
        "boundary_f": found.boundary_f,
        "images": found.images,
        "checkpoint": str(path),
        "method": meta["method"],
        "step": meta["step"],
        "partition": meta["partition"]["name"],
        "fingerprint": meta["partition"]["fingerprint"],
        "protocol": meta["partition"].get("protocol", ""),
        "data": dataset.name,
        "split": split,
        "window": side,
        "stride": stride if side else None,
        "scales": list(scales),
        "flip": flip,
        "absent_as_zero": absent_as_zero,
    }


def find_checkpoint(path: Path) -> Path:
    """`path` itself, or the best network, else the last one, of a run directory."""
    if not path.is_dir():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        f"{path} holds no checkpoint",
        why="there is neither best.safetensors nor last.safetensors in it",
        fix=f"{resuming(path)}, or name a .safetensors file",
    )


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


def check_options(stride: float | None, batch: int | None, scales: Sequence[float]) -> None:
    """Raise UsageError for values that no prediction can be made with; None stands for those of the training."""
    if stride is not None and not 0 < stride <= 1:
        raise UsageError(f"stride {stride} is not possible: a fraction of the window, in (0, 1]", fix="--stride 2/3")
    if batch is not None and batch < 1:
        raise UsageError(f"batch {batch} is not possible: it must be at least 1")
    if not scales or not all(0 < factor <= 8 for factor in scales):
        raise UsageError(f"scales {list(scales)} are not possible: factors in (0, 8]", fix="--scales 0.75,1,1.25")


def _workers(records: Sequence[Record]) -> int:
    return workers_for(-1, len(records), max((r.height * r.width for r in records), default=0))
