"""From a configuration, a dataset and a partition to a `Session`: networks, optimiser, plan of the loader."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.config.layers import with_steps
from semiseg_cli.core.data.again import adding
from semiseg_cli.core.data.loader import Plan, blocks_of
from semiseg_cli.core.data.order import Blocks
from semiseg_cli.core.data.photos import reduced_size
from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError, did_you_mean
from semiseg_cli.core.inference.metrics import check_best_by
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.methods.base import Build, Method
from semiseg_cli.core.methods.plugins import load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.models import described, load_encoder, starts_random
from semiseg_cli.core.models.decoders.blocks import ImagePooling
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.partitions.pairs import folder_of, pairs_of
from semiseg_cli.core.partitions.splits import class_pixels, nothing_known
from semiseg_cli.core.settings import FREQUENCY, BadSetting, Config, ModelConfig, TrainConfig, weights_by_name
from semiseg_cli.core.training.checkpoint import fit as fit_tensors
from semiseg_cli.core.training.checkpoint import read_network
from semiseg_cli.core.training.compiled import compile_networks
from semiseg_cli.core.training.distributed import World, same_start
from semiseg_cli.core.training.graph import check_graph
from semiseg_cli.core.training.optim import build_optimizer
from semiseg_cli.core.training.pooled import branches
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.training.step import Builder, Train
from semiseg_cli.core.training.threads import take_threads
from semiseg_cli.core.views import load_strong_view
from semiseg_cli.core.views.device import ViewSettings

WIDEST_VIEW = 4  # the published recipes' images are 1.5 to 2.6 times as long as their crops


def open_session(
    config: Config,
    dataset: Dataset,
    partition: Partition,
    world: World,
    note: Callable[[str], None],
    init: Path | None = None,
    bare: bool = False,
) -> Session:
    """Build everything for `config`. note: told in a line each what a user should know (weights, rare classes).

    bare: networks are left as they are made, without the encoder's weights, for a saved state that will fill them.
    Raises UsageError for a batch that cannot be divided and for graphs without CUDA, DataError where unlabeled images
    are needed and absent, or no labeled pixel is of a known class.
    """
    config = with_steps(config, len(partition.unlabeled) or len(partition.labeled))
    config = replace(config, model=described(config.model))
    dataset = dataset.shown(config.data.long_side)
    if partition.hint:
        note(partition.hint)
    frequencies = known_classes(config, dataset, partition, note)
    check_choice(config.train, dataset)
    narrow_view(dataset, config.train.crop, note)
    if hint := load_method(config.method_name).hint(config):
        note(hint)
    config, nearest = _with_pairs(config, dataset, partition, note)
    plan = plan_of(config, world, nearest, blocks_of(dataset, partition.unlabeled), note)
    check_graph(config.train, world)
    set_deterministic(config.train.deterministic)
    builder = Builder(
        {
            "backbone": config.model.backbone,
            "decoder": config.model.decoder,
            "output_stride": config.model.output_stride,
            "upsampling": config.model.upsampling,
            "freeze_bn": config.model.freeze_bn,
            "freeze_encoder": config.model.freeze_encoder,
        },
        len(dataset.classes),
        seed=config.train.seed,
        loss=config.train.loss,
        class_weights=class_weights(frequencies, config.train.class_weights, world.device, dataset.classes),
        ignore=dataset.ignore,
        prepare=_preparation(config, len(dataset.classes), init, bare, note),
        by_batch=(ImagePooling,) if config.train.pooled_images else (),
    )
    module = _module(config, builder, world)
    images = plan.micro * (2 if "unlabeled" in plan.inputs else 1)
    threads = take_threads(config.train.threads, module.method, images * plan.crop**2, world.device)
    config = replace(config, train=replace(config.train, threads=threads))  # a resumed run has as many
    if config.train.pooled_images and not branches(module.method.deployed()):  # a decoder without an image's mean
        config = replace(config, train=replace(config.train, pooled_images=0))
    optimizer = build_optimizer(module.method.groups(), config.train)
    return Session(config, dataset, partition, world, module, optimizer, plan)


def known_classes(
    config: Config, dataset: Dataset, partition: Partition, note: Callable[[str], None]
) -> list[float]:
    """Share of every class among the labeled pixels. Raises DataError where there is nothing to learn from."""
    if "unlabeled" in _inputs(config) and not partition.unlabeled:
        raise DataError(
            f"{config.method_name} needs unlabeled images, and {dataset.name} has none beside the labeled ones",
            fix=f"{adding(dataset, '--unlabeled', 'DIR')}fewer labels (--labeled N), or --method supervised",
        )
    frequencies = class_frequencies(partition.labeled, len(dataset.classes))
    absent = [name for name, share in zip(dataset.classes, frequencies, strict=True) if not share]
    if len(absent) == len(dataset.classes):
        raise nothing_known(len(partition.labeled))
    if absent:
        note(f"no labeled pixel of: {', '.join(absent)} (they cannot be learned from this partition)")
    return frequencies


def check_choice(train: TrainConfig, dataset: Dataset) -> None:
    """Raise BadSetting where the best network is to be chosen, or a run to be ended, by what is never measured."""
    check_best_by(train.best_by, dataset.classes)
    if train.patience and not dataset.val:
        allowed = f"0, as {dataset.name} has no validation images"
        raise BadSetting("train.patience", train.patience, allowed, fix="--set train.patience=0")


def plan_of(
    config: Config, world: World, nearest: tuple[int, ...], blocks: Blocks, note: Callable[[str], None]
) -> Plan:
    """Which images come into which step, and on which process. Raises UsageError for a batch that cannot be divided."""
    train = config.train
    micro = train.micro_batch or max(train.batch // world.size, 1)
    if train.batch % (micro * world.size):
        raise UsageError(
            f"a batch of {train.batch} cannot be divided among {world.size} devices in micro-batches of {micro}",
            fix=f"--batch {micro * world.size}",
        )
    plan = Plan(
        seed=train.seed, start=0, steps=train.steps, batch=train.batch, micro=micro, crop=train.crop,
        scale=train.scale, rotation=train.rotation, inputs=_inputs(config), pairs=nearest, blocks=blocks,
        rank=world.rank, world=world.size,
    )  # fmt: skip
    if "mix" in plan.inputs and train.batch == 1:
        note("a batch of one image: CutMix has no partner and pastes the image into itself")
    if plan.partners == "loaded":
        note(f"micro-batches of {micro}: CutMix partners lie in others, and are loaded and labeled twice")
    return plan


def _inputs(config: Config) -> frozenset[str]:
    return load_method(config.method_name).inputs(config.method)


def _module(config: Config, builder: Builder, world: World) -> Train:
    """The method with all that its step needs, on the device of the run."""
    train = config.train
    amp = train.amp == "bf16" or (train.amp == "auto" and native_bfloat16(world.device))
    method = _method(config, builder)
    encoder = method.deployed().encoder  # all networks of a run have the same
    views = view_settings(train)
    module = Train(method, seed=train.seed, mean=encoder.mean, std=encoder.std, amp=amp, views=views)
    module = module.to(memory_format=torch.channels_last).to(world.device)
    if world.size > 1 and world.device.type == "cuda":
        from timm.layers.norm_act import (
            convert_sync_batchnorm,  # PyTorch's would drop activations that are within norms
        )

        module = convert_sync_batchnorm(module)
    same_start(module, world)
    if train.compile:
        compile_networks(module)
    return module


def view_settings(train: TrainConfig) -> ViewSettings:
    strong = load_strong_view(train.strong_view, train.colour)
    return ViewSettings(strong if train.colour else None, train.cutmix)


def usual_side(dataset: Dataset) -> int:
    """The median of the training images' long sides in pixels, as they are shown."""
    images, sizes = dataset.training.size_counts(), dataset.training.sizes.tolist()
    sides = np.array([max(reduced_size(height, width, dataset.long_side)) for height, width in sizes])
    order, middle = sides.argsort(), [(images.sum() - 1) // 2, images.sum() // 2]
    return int(sides[order][np.searchsorted(images[order].cumsum(), middle, "right")].mean())


def narrow_view(dataset: Dataset, crop: int, note: Callable[[str], None]) -> None:
    """Tell where crops show so little of the images that nothing is seen in its surroundings."""
    side = usual_side(dataset)
    if side > WIDEST_VIEW * crop:
        ways = f"smaller images (-s data.long_side={2 * crop + 15}) or larger crops (-s train.crop={side // 2})"
        note(f"crops of {crop} pixels of images of {side}: {ways} show more")


def _method(config: Config, build: Build) -> Method[Any]:
    """The method, with its plug-ins where there are any."""
    method = load_method(config.method_name)(config.method, build)
    plugins = {name: load_plugin(name)(settings, build) for name, settings in config.plugins.items()}
    return Extended(method, plugins) if plugins else method


def _with_pairs(
    config: Config, dataset: Dataset, partition: Partition, note: Callable[[str], None]
) -> tuple[Config, tuple[int, ...]]:
    """The nearest labeled image of every unlabeled one, and the configuration with the file they are from.

    A resumed run then takes the same file, whatever has been made since. None for a method that takes no pairs.
    """
    if "paired" not in _inputs(config):
        return config, ()
    pairs = pairs_of(config, dataset, partition)
    note(f"pairs: {pairs.path} ({pairs.encoder}, {pairs.metric})")
    name = pairs.path.name if pairs.path.parent == folder_of(dataset) else str(pairs.path.absolute())
    return replace(config, data=replace(config.data, pairs=name)), pairs.nearest


def thawed(config: Config, init: Path | None, note: Callable[[str], None]) -> Config:
    """The configuration of a new run, without model.freeze_bn where its encoder starts from random weights.

    Batch norms frozen before they saw an image would pass everything on as it is (mean 0, variance 1) to the end.
    Not for a run that goes on: what its norms have seen is in its state.
    Raises BadSetting where the whole encoder would stay random.
    """
    model = config.model
    random = init is None and starts_random(model.backbone, model.weights)
    if model.freeze_encoder and random:
        allowed = "false where the encoder starts from random weights: they would stay so"
        fix = "--weights FILE, --init CHECKPOINT, or --set model.freeze_encoder=false"
        raise BadSetting("model.freeze_encoder", True, allowed, fix=fix)
    if not (model.freeze_bn and random):
        return config
    note("model.freeze_bn is off: the encoder starts from random weights, and its batch norms have seen no image yet")
    return replace(config, model=replace(model, freeze_bn=False))


def _preparation(
    config: Config, classes: int, init: Path | None, bare: bool, note: Callable[[str], None]
) -> Callable[[Any], None]:
    """What happens to every fresh network: weights unless `bare`, told of once.

    Of several networks the first starts as `init` whole, the others with its encoder: two students must not be alike.
    """
    told: set[str] = set()

    def fill(net: Any) -> None:
        if init is not None:
            tensors, meta = read_network(init)
            origin = Origin.of(meta)
            terms = f"; licence of its encoder's first weights: {origin.licence}" if origin.licence else ""
            line = f"network: {init}{terms}"
            _same_model(meta["model"], config.model, classes, init)
            if line in told:
                encoder = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
                tensors = net.state_dict() | encoder
            fit_tensors(net, tensors, init, _encoder_alone(init))
            net.encoder.origin = origin
        else:
            line = load_encoder(net.encoder, config.model.backbone, config.model.weights, note=note)
        if line not in told:
            told.add(line)
            note(line)

    def prepare(net: Any) -> None:
        _check_crop(config.train.crop, net.multiple)
        if not bare:
            fill(net)

    return prepare


def _check_crop(crop: int, multiple: int) -> None:
    if crop % multiple:
        raise UsageError(
            f"the encoder takes images whose sides are multiples of {multiple}, and crops of {crop} pixels are not",
            fix=f"-s train.crop={fit_side(crop, multiple)}",
        )


def _same_model(theirs: Mapping[str, Any], model: ModelConfig, classes: int, init: Path) -> None:
    """Raise CheckpointError, naming the difference, unless a checkpoint's network is that of the configuration."""
    ours = {"backbone": model.backbone, "decoder": model.decoder, "classes": classes}
    differ = [key for key, value in ours.items() if theirs[key] != value]
    if not differ:
        return
    why = "; ".join(f"{key}: {theirs[key]} there, {ours[key]} here" for key in differ)
    flags = {"backbone": f"-b {theirs['backbone']}", "decoder": f"-s model.decoder={theirs['decoder']}"}
    change = [flag for key, flag in flags.items() if key in differ]
    alone = _encoder_alone(init, theirs["backbone"] if "backbone" in differ else "")
    fix = alone if "classes" in differ else f"{' '.join(change)}, or {alone}"  # the classes are the dataset's
    raise CheckpointError(f"{init} does not fit this network", why=why, fix=fix)


def _encoder_alone(init: Path, backbone: str = "") -> str:
    return f"its encoder alone:{f' -b {backbone}' * bool(backbone)} --weights {shlex.quote(str(init))}, and no --init"


def set_deterministic(on: bool) -> None:
    """Only operations that repeat exactly, in the whole process; PyTorch raises where it has none."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    if on != torch.are_deterministic_algorithms_enabled():  # it imports the compiler to tell it
        torch.use_deterministic_algorithms(on)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads it
    torch.backends.cudnn.benchmark = not on  # it may choose other kernels the next time


def native_bfloat16(device: torch.device) -> bool:
    """CUDA, or a CPU whose instructions include bfloat16 products (elsewhere they are emulated, and slower)."""
    info = Path("/proc/cpuinfo")
    return device.type == "cuda" or (info.exists() and "avx512_bf16" in info.read_text())


def class_frequencies(records: Sequence[Record], classes: int) -> list[float]:
    """Share of every class among the labeled pixels of some records."""
    counts = np.zeros(classes, np.int64)
    for record in records:
        counts += np.array(class_pixels(record, classes))
    shares: list[float] = (counts / max(int(counts.sum()), 1)).tolist()
    return shares


def class_weights(
    frequencies: Sequence[float], kind: str, device: torch.device | str = "cpu", classes: Sequence[str] = ()
) -> Tensor | None:
    """Weights of the labeled loss: 1/sqrt(f) or 1/f of a class's share f, with mean 1 over the classes that occur.

    Or those that `kind` gives by name, as they are. Raises BadSetting for a name that is none of `classes`.
    """
    if kind == "none":
        return None
    if kind not in FREQUENCY:
        named = weights_by_name(kind) or {}
        if unknown := next((name for name in named if name not in classes), None):
            allowed = f"weights of this dataset's classes, and {unknown!r} is none"
            raise BadSetting("train.class_weights", kind, allowed, fix=did_you_mean(unknown, classes))
        return torch.tensor([named.get(name, 1.0) for name in classes], dtype=torch.float32, device=device)
    f = torch.tensor(frequencies, dtype=torch.float64)
    weights = f.clamp(min=1e-12) ** (-0.5 if kind == "sqrt" else -1.0)
    weights[f == 0] = 0.0
    return (weights * (f > 0).sum() / weights.sum()).float().to(device)
