"""Pictures of predictions: beside the truth, of several networks side by side, and the worst images first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semiseg_cli.core.data.again import adding
from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.evaluation import load_labeled
from semiseg_cli.core.inference.predictions import predictions
from semiseg_cli.core.inference.predictor import CPU_PIXELS, Predictor
from semiseg_cli.core.ops import metrics
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import device_of
from semiseg_cli.core.training.threads import take_threads
from semiseg_cli.core.viz.legend import Legend
from semiseg_cli.core.viz.palette import class_colours
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Errors, Labels, Photo, Tile
from semiseg_cli.stages.evaluate import same_classes
from semiseg_cli.stages.progress import Progress

Array = np.ndarray[Any, Any]


class Judged(NamedTuple):
    """A prediction against its truth: classes uint8 HxW, mIoU over this image's classes in percent, share wrong."""

    record: Record
    label: Array
    truth: Array
    miou: float
    wrong: float


def masks(
    networks: Mapping[str, Path], root: Path | None, count: int, seed: int, device: str, progress: Progress
) -> tuple[Gallery, dict[str, Any]]:
    """Image, truth and a prediction of every network, on validation images drawn by the seed."""

    def drawn(records: Sequence[Record]) -> list[Record]:
        return [records[i] for i in sorted(np.random.default_rng(seed).permutation(len(records))[:count])]

    found: dict[str, dict[str, Judged]] = {}
    steps = list[str]()
    for name, path in networks.items():
        dataset, meta, judged = judge(path, root, drawn, device, progress)
        found[name] = {each.record.id: each for each in judged}
        steps.append(f"{name} at {stands(meta)}" if len(networks) > 1 else stands(meta))
    if not found[name]:
        raise nothing_to_show(dataset)
    legend = legend_of(dataset, "unlabeled")
    rows, images = [], []
    for id in sorted(found[name]):
        each = {name: predicted[id] for name, predicted in found.items()}
        first = each[name]
        tiles: list[Tile] = [Photo(decode_record(first.record)), Labels(first.truth, legend.colours)]
        tiles += [Labels(one.label, legend.colours) for one in each.values()]
        said = ", ".join(f"{_prefix(name, each)}mIoU {one.miou:.1f}" for name, one in each.items())
        rows.append(Row(f"{id}: {said}", tiles))
        images.append({"id": id, "miou": {name: one.miou for name, one in each.items()}})
    what = f"Predictions of {meta['method']}" if len(networks) == 1 else f"Predictions: {' and '.join(networks)}"
    subtitle = f"{dataset.name}, {'; '.join(steps)}: {len(rows)} of {len(dataset.val)} validation images; "
    subtitle += "below each its mIoU, over its own classes"
    gallery = Gallery(what, subtitle, ("image", "ground truth", *networks), rows, legend)
    return gallery, {"checkpoints": [str(path) for path in networks.values()], "images": images}


def errors(
    networks: Mapping[str, Path], root: Path | None, count: int, seed: int, device: str, progress: Progress
) -> tuple[Gallery, dict[str, Any]]:
    """The images that a network gets most wrong, the worst first."""
    ((_, path),) = networks.items()
    worst: list[Judged] = []
    dataset, meta, judged = judge(path, root, list, device, progress)
    for each in judged:
        worst = sorted([*worst, each], key=lambda one: (one.miou, one.record.id))[:count]
    if not worst:
        raise nothing_to_show(dataset)
    legend = legend_of(dataset, "unlabeled", wrong=True)
    rows = []
    for each in worst:
        rgb, counted = decode_record(each.record), each.truth != dataset.ignore
        wrong = (each.label != each.truth) & counted
        tiles: list[Tile] = [
            Photo(rgb),
            Labels(each.truth, legend.colours),
            Labels(each.label, legend.colours),
            Errors(rgb, wrong, counted),
        ]
        rows.append(Row(f"{each.record.id}: mIoU {each.miou:.1f}, {each.wrong:.0%} of the pixels wrong", tiles))
    subtitle = f"{dataset.name}: the worst {len(rows)} of {len(dataset.val)} validation images, by mIoU over each "
    subtitle += f"image's classes; {meta['method']}, {stands(meta)}"
    columns = ("image", "ground truth", "prediction", "errors")
    images = [{"id": each.record.id, "miou": each.miou, "wrong": each.wrong} for each in worst]
    return Gallery("Worst images", subtitle, columns, rows, legend), {"checkpoint": str(path), "images": images}


def legend_of(dataset: Dataset, unlabeled: str, scale: str = "", wrong: bool = False) -> Legend:
    """The legend of a dataset's classes. unlabeled: what it means to have no label here."""
    colours = class_colours(dataset.palette, dataset.classes, f"dataset {dataset.name}")
    return Legend(dataset.classes, colours, unlabeled, scale, wrong)


def judge(
    path: Path, root: Path | None, choose: Callable[[Sequence[Record]], list[Record]], device: str, progress: Progress
) -> tuple[Dataset, dict[str, Any], Iterator[Judged]]:
    """Dataset and metadata of a checkpoint, and its predictions, as eval makes them, on chosen val images."""
    place = device_of(device)
    net, meta = load_network(path, place)
    take_threads(meta["config"].get("train.threads", 0), net, CPU_PIXELS, place)
    dataset = load_dataset(find_root(meta["data"]["name"], root, path), meta["data"]["name"])
    same_classes(dataset, meta["data"]["classes"], path)
    legend_of(dataset, "")  # a palette that is too short is told before the work
    records = choose([record for record in dataset.val if record.mask is not None])
    if not records:
        raise nothing_to_show(dataset)
    load = partial(load_labeled, classes=len(dataset.classes), ignore=dataset.ignore)
    parts = predictions(Predictor.of(net, meta, place), records, load=load)

    def judged() -> Iterator[Judged]:
        with progress(f"predicting {dataset.name}", len(records)) as advance:
            for part in parts:
                assert part.truth_BHW is not None
                for record, label, truth in zip(part.records, part.label_BHW, part.truth_BHW, strict=True):
                    matrix = metrics.confusion(label, truth, len(dataset.classes), dataset.ignore)
                    advance()
                    if not matrix.any():
                        continue  # nothing is labeled in it
                    wrong = 1 - metrics.pixel_accuracy(matrix) / 100
                    yield Judged(record, label.cpu().numpy(), truth.cpu().numpy(), metrics.miou(matrix), wrong)

    return dataset, meta, judged()


def stands(meta: dict[str, Any]) -> str:
    """Where a network stands, of a checkpoint's metadata: its step, and its mIoU where it was measured."""
    miou = meta.get("miou")
    return f"step {meta['step']}" + (f", mIoU {miou:.1f}" if miou is not None else "")


def nothing_to_show(dataset: Dataset) -> DataError:
    what = "no labeled pixel in its" if dataset.val else "no"
    return DataError(
        f"dataset {dataset.name} has {what} validation images to show",
        fix=f"{adding(dataset, '--val', 'DIR', '--val-masks', 'DIR')}--pseudo needs none",
    )


def _prefix(name: str, each: Mapping[str, Judged]) -> str:
    return f"{name} " if len(each) > 1 else ""
