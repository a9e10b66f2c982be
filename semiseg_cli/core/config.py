"""The configuration: frozen dataclasses filled from layers, each value remembering where it came from.

Layers, weakest first: defaults, the method's own defaults, preset, semiseg.toml, --config FILE, flags, --set.
Every setting has a dotted name such as `train.lr`; its documentation is the string in its `Annotated` type,
so that help texts, `semiseg methods` and errors all read the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

Doc = Annotated  # `Doc[float, "text"]` reads better than Annotated where the second part is documentation


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    name: Doc[str, "prepared dataset: a folder below the data root"] = ""
    labeled: Doc[str, "labeled images: a count (183), a fraction (1/8), a list file, or empty for all that have a mask"] = ""
    balance: Doc[Literal["classes", "random"], "how an own partition is drawn"] = "classes"
    split_seed: Doc[int, "seed of an own partition; -1 takes train.seed"] = -1


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    backbone: Doc[str, "encoder"] = "resnet50"
    decoder: Doc[str, "decoder"] = "deeplabv3plus"
    output_stride: Doc[Literal[8, 16], "input size over the last feature map's size"] = 16
    weights: Doc[str, "encoder weights: imagenet, none, or a safetensors file; auto is imagenet where it exists"] = "auto"
    freeze_bn: Doc[bool, "encoder batch norms keep their running statistics (small batches, calibrated weights)"] = False


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    steps: Doc[int, "optimiser steps"] = 40000
    batch: Doc[int, "labeled images per step over all devices; as many unlabeled ones come with them"] = 16
    micro_batch: Doc[int, "labeled images per forward on one device; 0: no accumulation"] = 0
    crop: Doc[int, "side of the square training crop in pixels"] = 321
    scale: Doc[tuple[float, float], "range of the random rescaling of the weak view"] = (0.5, 2.0)
    optimizer: Doc[Literal["sgd", "adamw"], "optimiser"] = "sgd"
    lr: Doc[float, "learning rate of the encoder at this batch"] = 0.002
    head_lr_multiplier: Doc[float, "everything but the encoder learns this many times faster"] = 10.0
    momentum: Doc[float, "SGD momentum"] = 0.9
    weight_decay: Doc[float, "weight decay on every parameter"] = 1e-4
    poly_power: Doc[float, "lr = lr0 * (1 - step/steps) ** power"] = 0.9
    warmup_steps: Doc[int, "steps over which the learning rate rises linearly from zero"] = 0
    grad_clip: Doc[float, "largest gradient norm; 0: no clipping"] = 0.0
    loss: Doc[Literal["ce", "ohem"], "loss on labeled pixels"] = "ce"
    class_weights: Doc[Literal["none", "sqrt", "inverse"], "weights of the labeled loss by class frequency"] = "none"
    eval_every: Doc[int, "steps between evaluations; 0: only at the end"] = 2000
    save_every: Doc[int, "steps between saved resume states"] = 1000
    log_every: Doc[int, "steps between log lines"] = 50
    amp: Doc[Literal["auto", "bf16", "off"], "bfloat16 autocast; auto: on CUDA"] = "auto"
    channels_last: Doc[bool, "NHWC memory format"] = True
    workers: Doc[int, "loader processes; -1: chosen from the machine"] = -1
    cache_mb: Doc[int, "RAM for decoded images, shared by the loader processes; 0: none"] = 2048
    sync_bn: Doc[bool, "batch norm over all processes (CUDA)"] = True
    compile: Doc[bool, "torch.compile of encoder and decoder (CUDA)"] = False
    seed: Doc[int, "every random draw follows from it"] = 0


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    window: Doc[str, "auto (the dataset's protocol), none (whole image), or the side of the sliding window"] = "auto"
    stride: Doc[float, "step of the sliding window as a fraction of its side"] = 2 / 3
    batch: Doc[int, "windows or images of equal shape per forward"] = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run is made of. `method` is the settings dataclass of the method called `method_name`."""

    method_name: str
    method: Any
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig
