"""Check a prepared dataset: every file is read, compared with the index, and searched for pictures that leak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.data.again import anew, as_now, bringing_back, updating
from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.names import fingerprint
from semiseg_cli.core.data.shards import FOLDER, is_there, listed, wrong
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.files import digest
from semiseg_cli.core.partitions.protocols import protocols
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.sources.checks import Look, histogram, look, same_pictures, similar_pictures
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.split import class_counts
from semiseg_cli.stages.update import on_disk

Finding = dict[str, str]
EQUAL = " = "  # between the names of a group of pictures in the detail of a finding
SAMPLE = 1000  # images of a part whose files are looked for where no picture is opened


def check(
    root: Path, data: str, *, labeled: str = "", fast: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """What `semiseg check` reports, as plain values; the data are sound where `problems` is empty.

    labeled: a partition, as for `train`, whose classes are counted too. fast: no picture is opened; the index says
    what is in them, and of SAMPLE, evenly spread, it is seen whether their files are there. Problems spoil a training
    or its measure: files that cannot be read or do not fit, values that are no class, validation pictures that are also
    trained on. Warnings are what somebody should know: classes without a pixel, pictures that are there twice.
    """
    dataset = load_dataset(root, data)
    if fast:
        train, val = _indexed(dataset.training), _indexed(Records.of(dataset.val))
    else:
        train, val = _read(dataset, progress)
    news = [] if fast else on_disk(dataset)
    looks = (*train, *val)
    problems = [{"what": what, "detail": detail} for each in looks for what, detail in each.problems]
    leaks, warnings = _twice(dataset, looks)
    problems += _shards(dataset, fast) + leaks + [
        {"what": "validation image without a mask", "detail": str(record.image)}
        for record in Records.of(dataset.val).unmasked
    ]
    classes = _classes(dataset, train, val)
    new = f"on disk, and not in the dataset ({updating(dataset.root)})"
    warnings += [{"what": new, "detail": each} for each in news]
    warnings += _similar(train, val) + _warnings(dataset, looks, classes)
    result: dict[str, Any] = {
        "data": data,
        "kind": dataset.kind,
        "fast": fast,
        "images": {
            "labeled": len(dataset.labeled),
            "unlabeled": len(dataset.pool),
            "val": len(dataset.val),
        },
        "sizes": {"smallest": _extreme(dataset, min), "largest": _extreme(dataset, max)},
        "classes": classes,
        "ignored_pixels": {"train": sum(each.ignored for each in train), "val": sum(each.ignored for each in val)},
        "val_is_published": _val_is_published(dataset),
        "partition": None,
        "fix": _fix(dataset, looks),
        "problems": problems,
        "warnings": warnings,
    }
    if labeled:
        result["partition"] = _partition(dataset, labeled, warnings)
    return result


def _read(dataset: Dataset, progress: Progress) -> tuple[list[Look], list[Look]]:
    """What is in the files of the training and the validation images."""
    records = [*dataset.train, *dataset.val]
    with progress(f"checking {dataset.name}", len(records)) as advance:

        def one(record: Record) -> Look:
            found = look(record, dataset)
            advance()
            return found

        looks = on_all_cores(one, records)
    return list(looks[: len(dataset.train)]), list(looks[len(dataset.train) :])


def _indexed(records: Records) -> list[Look]:
    """What the index says of images with a mask, and of SAMPLE of all whether they are there."""
    some = [records[place] for place in np.linspace(0, len(records) - 1, min(SAMPLE, len(records))).round().astype(int)]
    gone = [record for record in some if not (is_there(record.image) and is_there(record.mask or record.image))]
    wrong = [Look(record, b"", (), 0, (("file that is not there", _file(record)),)) for record in gone]
    counted = [record for record in records.masked if record.pixels]
    ignored = [record.height * record.width - sum(record.pixels) for record in counted]
    return wrong + [Look(each, b"", each.pixels, rest, ()) for each, rest in zip(counted, ignored, strict=True)]


def _file(record: Record) -> str:
    """The one that is not there."""
    return str(record.mask if record.mask and is_there(record.image) else record.image)


def _shards(dataset: Dataset, fast: bool) -> list[Finding]:
    """Shards that are not as long as they were, or have another content. fast: they are not read."""
    folder = dataset.root / FOLDER
    if not dataset.block:
        return []
    found = list[Finding]()
    for name, said in listed(folder).items():
        shard = folder / name
        bad = wrong(shard)
        if not (bad or fast) and shard.exists() and digest(shard) != said["sha256"]:
            bad = "it has another content"
        found += [{"what": "shard that is not as it was written", "detail": f"{shard}: {bad}"}] * bool(bad)
    return found


def _fix(dataset: Dataset, looks: Sequence[Look]) -> str:
    """What to do about problems: photos that were moved are found again, others replaced, or all prepared anew."""
    gone = [each.record.image for each in looks if not is_there(each.record.image)]
    if len(gone) == len(looks):
        return bringing_back(dataset.root, dataset.kind, gone)
    return as_now(dataset.root) or f"replace these files, or prepare the dataset again: {anew(dataset.root)}"


def _twice(dataset: Dataset, looks: Sequence[Look]) -> tuple[list[Finding], list[Finding]]:
    """Pictures in both sets, which are a problem, and pictures twice in one of them."""
    val = {record.id for record in dataset.val}
    leaks, repeats = list[Finding](), list[Finding]()
    for group in same_pictures(looks):
        detail = EQUAL.join(f"{'val' if record.id in val else 'train'} {record.id}" for record in group)
        if len({record.id in val for record in group}) == 2:
            leaks.append({"what": "picture both trained on and validated on", "detail": detail})
        else:
            repeats.append({"what": "picture that is there more than once", "detail": detail})
    return leaks, repeats


def _similar(train: Sequence[Look], val: Sequence[Look]) -> list[Finding]:
    """Training pictures that look like a validation picture, the labeled ones first."""
    pairs = sorted(similar_pictures(train, val), key=lambda pair: pair[0].mask is None)
    return [
        {
            "what": f"{'labeled' if ours.mask else 'unlabeled'} picture that looks like a validation picture, perhaps "
            "the same in another encoding",
            "detail": f"train {ours.id}{EQUAL}val {theirs.id}",
        }
        for ours, theirs in pairs
    ]


def _classes(dataset: Dataset, train: Sequence[Look], val: Sequence[Look]) -> dict[str, dict[str, int]]:
    in_train, in_val = histogram(train, len(dataset.classes)), histogram(val, len(dataset.classes))
    return {
        name: {
            "train_images": in_train[0][k], "train_pixels": in_train[1][k],
            "val_images": in_val[0][k], "val_pixels": in_val[1][k],
        }
        for k, name in enumerate(dataset.classes)
    }  # fmt: skip


def _warnings(dataset: Dataset, looks: Sequence[Look], classes: dict[str, dict[str, int]]) -> list[Finding]:
    parts = [("train", len(dataset.labeled)), ("val", len(dataset.val))]
    found = [
        {"what": f"class without a pixel in {part}", "detail": name}
        for part, count in parts
        for name, counts in classes.items()
        if count and not counts[f"{part}_pixels"]
    ]
    found += [
        {"what": "mask that ignores every pixel", "detail": str(each.record.mask)}
        for each in looks
        if each.pixels and not any(each.pixels)
    ]
    return found if dataset.val else [*found, {"what": "no validation image", "detail": "nothing can be measured"}]


def _partition(dataset: Dataset, labeled: str, warnings: list[Finding]) -> dict[str, Any]:
    partition = resolve_partition(dataset, labeled)
    counts = class_counts(dataset, partition)
    warnings += [
        {"what": "class in none of the labeled images of the partition", "detail": each.name}
        for each in counts
        if not each.images
    ]
    return {
        "name": partition.name,
        "fingerprint": partition.fingerprint,
        "labeled": len(partition.labeled),
        "unlabeled": len(partition.unlabeled),
        "classes": {each.name: {"images": each.images, "pixels": each.pixels} for each in counts},
    }


def _val_is_published(dataset: Dataset) -> bool | None:
    """Whether the validation images are those that papers report on; None for data that no paper does."""
    known = {protocol.val_sha256 for protocol in protocols(dataset.kind)}
    return fingerprint(record.id for record in dataset.val) in known if known else None


def _extreme(dataset: Dataset, pick: Any) -> str:
    sizes = list[list[int]]()
    for records in (dataset.training, Records.of(dataset.val)):
        sizes += records.sizes[records.size_counts() > 0].tolist()
    height, width = pick(sizes, key=lambda size: (math.prod(size), size), default=(0, 0))
    return f"{width}x{height}" if sizes else ""
