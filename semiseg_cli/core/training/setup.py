"""From a configuration, a dataset and a partition to a `Session`: networks, optimiser, plan of the loader."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg_cli.core.config.layers import with_steps
from semiseg_cli.core.data.loader import Plan, blocks_of
from semiseg_cli.core.data.order import Blocks
from semiseg_cli.core.data.photos import reduced_size
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.metrics import check_best_by
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.methods.base import Build, Method
from semiseg_cli.core.methods.plugins import load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.models import described
from semiseg_cli.core.models.decoders.blocks import ImagePooling
from semiseg_cli.core.partitions.pairs import folder_of, pairs_of
from semiseg_cli.core.settings import BadSetting, Config, TrainConfig
from semiseg_cli.core.training.compiled import compile_networks
from semiseg_cli.core.training.distributed import World, same_start
from semiseg_cli.core.training.first_weights import preparation
from semiseg_cli.core.training.graph import check_graph
from semiseg_cli.core.training.labeled_classes import class_weights, known_classes
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
        prepare=preparation(config, len(dataset.classes), init, bare, note),
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
