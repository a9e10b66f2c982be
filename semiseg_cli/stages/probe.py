"""A network in minutes: the maps of a frozen encoder are computed once, and a small head is trained on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved, flatten, resolve
from semiseg_cli.core.config.presets import of_project
from semiseg_cli.core.data.again import naming_bad_files
from semiseg_cli.core.data.photos import reduced_size
from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.dense import Maps
from semiseg_cli.core.inference.evaluation import Evaluation, evaluate, load_labeled
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.models import build_segmenter, load_encoder
from semiseg_cli.core.models.decoders.heads import Linear
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.ops.processes import share_of, told
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.places import remember
from semiseg_cli.core.runs.environment import write_environment
from semiseg_cli.core.runs.log import append_metrics
from semiseg_cli.core.runs.results import finish, write_evaluation, write_partition
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.alike import alike, one_folder
from semiseg_cli.core.training.checkpoint import save_network
from semiseg_cli.core.training.distributed import World, same_start, sharing
from semiseg_cli.core.training.heads import Example, fit_head, sampled
from semiseg_cli.core.training.labeled_classes import class_weights, known_classes
from semiseg_cli.core.training.measure import peak_memory
from semiseg_cli.core.training.session import network_meta
from semiseg_cli.stages.building import interruptible
from semiseg_cli.stages.foresee import members
from semiseg_cli.stages.progress import Progress, silent

FEATURES = "features"  # folder in that of a dataset
NAME = "last.safetensors"  # of the network, in the run
DEFAULTS: dict[str, Any] = {  # how they were chosen: RESULTS.md, "A probe"
    "method.name": "supervised", "model.backbone": "efficientnet_lite0", "model.decoder": "mlp",
    "model.freeze_encoder": True, "data.long_side": 728, "train.steps": 300, "train.batch": 2,
    "train.optimizer": "adamw", "train.head_lr_multiplier": 1.0, "train.weight_decay": 0.01,
    "train.warmup_steps": 20, "train.class_weights": "sqrt", "train.amp": "off", "eval.window": "none",
}  # fmt: skip
RATES = {"linear": 1e-2, "mlp": 1e-3}  # of a head


def probe(
    resolved: Resolved,
    *,
    data_root: Path,
    runs_root: Path,
    out: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compute what is missing of the labeled images' maps, train a head on them, evaluate; returns what and where.

    Several processes share features and the evaluation; the first trains the head and writes.
    resolved: as `settings_of` makes it. out: the run directory itself; None: one below `runs_root`. The network is
    saved before it is evaluated, and then once more with its mIoU.
    Raises UsageError, DataError and CheckpointError with what to do; an interrupt keeps the maps that are done.
    """
    with sharing(device) as world:
        return _probe(resolved, data_root, runs_root, out, world, progress, note)


def _probe(
    resolved: Resolved, data_root: Path, runs_root: Path, out: Path | None, world: World, progress: Progress,
    note: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    config, place = resolved.config, world.device
    whole, partition = members(config, data_root, world)
    dataset = whole.shown(config.data.long_side)
    if partition.hint:
        note(partition.hint)
    frequencies = known_classes(config, dataset, partition, note)
    net = alike("encoder", lambda: _network(config, dataset, note), lambda _: {}, world).to(place).eval()
    run = runs.claim_run(out) if out and world.main else None
    with naming_bad_files(dataset):
        maps, features = _mapped(net, config.model.backbone, dataset, partition, world, progress, note)
        began, loss = time.monotonic(), 0.0
        if world.main:
            examples = [Example(maps.read(record), _labels(record, net, dataset)) for record in partition.labeled]
            weight_K = class_weights(frequencies, config.train.class_weights, place, dataset.classes)
            with progress("training the head", config.train.steps) as advance:
                loss = fit_head(_head(net), examples, config.train, weight_K, dataset.ignore, advance)
            run = run or runs.create_run(runs_root, runs.run_name(config).replace("-supervised-", "-probe-"))
            runs.write_config(run, resolved)
            write_environment(run, str(place), processes=world.size)
            remember(run, dataset.root)
            write_partition(run, partition)
        seconds = round(time.monotonic() - began, 2)
        same_start(net, world)
        found = _saved(net, config, dataset, partition, run, progress, place)
    last = {"step": config.train.steps, **found.metrics} if found else None
    result = {
        "run": str(run), "method": "probe", "data": dataset.name, "partition": partition.name,
        "labeled": len(partition.labeled), "encoder": config.model.backbone, "head": config.model.decoder,
        "long_side": dataset.long_side, "features": features, "steps": config.train.steps, "loss": loss,
        "seconds": round(seconds + features["seconds"], 2), "head_seconds": seconds,
        "peak_memory_bytes": peak_memory(place), "images": found.images if found else 0, "last": last, "best": last,
    }  # fmt: skip
    if run:
        finish(run, result)
    return result


def settings_of(flags: Mapping[str, Any], directory: Path = Path()) -> Resolved:
    """The configuration of a probe. flags: flat settings given as options, of those that a probe reads.

    Weaker than these is what semiseg.toml in `directory` says of [data]; the rest of that file is about training
    through the encoder. As a configuration of `semiseg train` it trains the same network, with the encoder, on crops.
    """
    head = flags.get("model.decoder", DEFAULTS["model.decoder"])
    defaults = DEFAULTS | {"train.lr": RATES.get(head, 1e-3)}
    return resolve([("probe", defaults), of_project("data", directory), ("command line", flags)])


def _network(config: Config, dataset: Dataset, note: Callable[[str], None]) -> Segmenter:
    model = config.model
    net = build_segmenter(
        model.backbone, model.decoder, len(dataset.classes), output_stride=model.output_stride,
        seed=config.train.seed, upsampling=model.upsampling,
    )  # fmt: skip
    if not isinstance(net.decoder, Linear):
        raise UsageError(f"{model.decoder} is no head of a probe", fix="--head mlp")
    note(load_encoder(net.encoder, model.backbone, model.weights, note=note))
    return net


def _head(net: Segmenter) -> Linear:
    assert isinstance(net.decoder, Linear)
    return net.decoder


def _mapped(
    net: Segmenter, backbone: str, dataset: Dataset, partition: Partition, world: World, progress: Progress,
    note: Callable[[str], None],
) -> tuple[Maps, dict[str, Any]]:  # fmt: skip
    """The labeled images' maps, and what they cost."""
    one_folder(dataset.root / FEATURES, world)
    maps = Maps.below(dataset.root / FEATURES, net.encoder, backbone, dataset.long_side)
    records, mine = partition.labeled, list(share_of(partition.labeled))
    with interruptible("computing features"), progress(f"features of {len(records)} images", len(mine)) as advance:
        costs = told(maps.compute(mine, advance))
        if world.main:
            maps.drop_others((*dataset.train, *dataset.val))
    computed, seconds = sum(each.images for each in costs), max(each.seconds for each in costs)
    size = maps.path(records[0]).stat().st_size
    cost: dict[str, Any] = {
        "images": len(records),
        "computed": computed,
        "seconds": round(seconds, 2),
        "ms_per_image": round(1000 * seconds / computed, 1) if computed else None,
        "bytes_per_image": size,
        "folder": str(maps.folder),
    }
    each = f"{cost['ms_per_image']:.0f} ms" if computed else "found from before"
    note(f"features: {each}, {size / 1e6:.1f} MB an image, in {maps.folder}, which may be removed")
    return maps, cost


def _labels(record: Record, net: Segmenter, dataset: Dataset) -> torch.Tensor:
    _, mask = load_labeled(record, len(dataset.classes), dataset.ignore)
    height, width = reduced_size(record.height, record.width, dataset.long_side)
    seen = (fit_side(height, net.multiple), fit_side(width, net.multiple))
    return sampled(torch.from_numpy(mask), seen, _head(net).patches)


def _saved(
    net: Segmenter, config: Config, dataset: Dataset, partition: Partition, run: Path | None, progress: Progress,
    place: torch.device,
) -> Evaluation | None:  # fmt: skip
    """Save the network, measure it as `semiseg eval` does, and save it with that. None without validation images.

    run: None in all processes but the first.
    """
    meta = network_meta(config, dataset, partition, net.encoder, flatten(config), unlabeled=0)
    meta |= {"step": config.train.steps, "miou": None, "best": False}
    if run:
        save_network(run / NAME, net, meta)
    if not dataset.val:
        return None
    with progress(f"evaluating {dataset.name} val", len(dataset.val)) as advance:
        found = evaluate(Predictor.of(net, meta, place), dataset, dataset.val, progress=advance)
    if run:
        save_network(run / NAME, net, meta | {"miou": found.miou})
        append_metrics(run, {"step": config.train.steps, **found.metrics, "best_miou": found.miou})
        write_evaluation(run, found.of(dataset, config.train.steps))
    return found
