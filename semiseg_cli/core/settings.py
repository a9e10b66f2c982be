"""The settings: frozen dataclasses, each field documented by the text in its `Doc` type and checked on creation.

Help texts, `semiseg methods` and errors read the same words. A method's own `Settings` are written the same way:
`tau: Doc[float, "confidence threshold"] = 0.95`, with `require(...)` in `__post_init__` for ranges. `Doc` is
`typing.Annotated` under a name that says what its second part is; it is imported from typing so that checkers see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated as Doc
from typing import Any, Literal, get_type_hints

from semiseg_cli.core.errors import UsageError


class BadSetting(UsageError):
    """A setting whose value is not allowed; `setting` is its dotted name, so that its origin can be looked up."""

    def __init__(self, setting: str, value: Any, allowed: str, origin: str = "") -> None:
        what = f"{setting} = {value!r} is not possible: it must be {allowed}"
        super().__init__(what, why=f"it was set by: {origin}" if origin else "", fix=f"--set {setting}=VALUE")
        self.setting, self.value, self.allowed = setting, value, allowed


def require(ok: bool, setting: str, value: Any, allowed: str) -> None:
    """Raise BadSetting unless `ok`. `allowed` completes the sentence "it must be ..."."""
    if not ok:
        raise BadSetting(setting, value, allowed)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    name: Doc[str, "prepared dataset: a folder below the data root"] = ""
    labeled: Doc[str, "labeled images: a count (183, classic/183), a fraction (1/8) or a list file; empty: all"] = ""
    balance: Doc[Literal["classes", "random"], "how an own partition is drawn"] = "classes"
    split_seed: Doc[int, "seed of an own partition; -1 takes train.seed"] = -1
    pairs: Doc[str, "file of `semiseg pair`, where a method takes pairs; empty: the newest of this partition"] = ""

    def __post_init__(self) -> None:
        require(self.split_seed >= -1, "data.split_seed", self.split_seed, "-1 or more")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    backbone: Doc[str, "encoder"] = "resnet50"
    decoder: Doc[str, "decoder"] = "deeplabv3plus"
    output_stride: Doc[Literal[8, 16, 32], "input size over the last feature map's size"] = 16
    weights: Doc[str, "encoder weights: imagenet, none or a safetensors file; auto: imagenet if it exists"] = "auto"
    upsampling: Doc[
        Literal["bilinear", "corners", "nearest"],
        "of maps and logits within the network: bilinear; the same with corners aligned, as published, which shifts "
        "them where sides are not 16 n + 1; or nearest, which repeats exactly on CUDA",
    ] = "bilinear"
    freeze_bn: Doc[bool, "encoder batch norms keep their running statistics (for small batches)"] = False


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    steps: Doc[int, "optimiser steps; 0: as many as train.epochs are"] = 40000
    epochs: Doc[int, "passes over the unlabeled images, which become train.steps where those are 0"] = 0
    batch: Doc[int, "labeled images per step over all devices; as many unlabeled ones come with them"] = 16
    micro_batch: Doc[int, "labeled images per forward on one device; 0: no accumulation"] = 0
    crop: Doc[int, "side of the square training crop in pixels"] = 321
    scale: Doc[tuple[float, float], "range of the random rescaling of the weak view"] = (0.5, 2.0)
    rotation: Doc[float, "largest random rotation of the weak view in degrees, either way"] = 0.0
    colour: Doc[float, "strength of the strong views' colour augmentation, in [0, 1]; 1 as published, 0 none"] = 1.0
    cutmix: Doc[float, "probability that a strong view has a CutMix box, in [0, 1]; 0.5 as published"] = 0.5
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
    amp: Doc[Literal["auto", "bf16", "off"], "bfloat16 autocast; auto: on CUDA, and on a CPU that has it"] = "auto"
    channels_last: Doc[bool, "NHWC memory format"] = True
    workers: Doc[int, "loader processes; -1: chosen from the machine"] = -1
    cache_mb: Doc[int, "RAM for decoded images, shared by the loader processes; 0: none"] = 2048
    sync_bn: Doc[bool, "batch norm over all processes (CUDA)"] = True
    compile: Doc[bool, "torch.compile of encoder and decoder (CUDA)"] = False
    seed: Doc[int, "every random draw follows from it"] = 0
    deterministic: Doc[bool, "only operations that repeat exactly (slower on CUDA), an error where none does"] = False

    def __post_init__(self) -> None:
        require(self.steps >= (self.epochs == 0), "train.steps", self.steps, "1 or more, or 0 with train.epochs")
        for name in ("batch", "save_every", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "1 or more")
        not_negative = ("micro_batch", "warmup_steps", "grad_clip", "eval_every", "cache_mb", "weight_decay", "seed")
        for name in ("epochs", *not_negative):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "0 or more")
        for name in ("lr", "head_lr_multiplier", "poly_power"):
            require(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "more than 0")
        divides = self.micro_batch == 0 or self.batch % self.micro_batch == 0
        require(divides, "train.micro_batch", self.micro_batch, f"0 or a divisor of train.batch = {self.batch}")
        require(self.crop >= 32, "train.crop", self.crop, "32 or more (the network's strides)")
        require(0 < self.scale[0] <= self.scale[1], "train.scale", self.scale, "two factors, 0 < smallest <= largest")
        require(0 <= self.rotation <= 180, "train.rotation", self.rotation, "in [0, 180]")
        require(0 <= self.colour <= 1, "train.colour", self.colour, "in [0, 1]")
        require(0 <= self.cutmix <= 1, "train.cutmix", self.cutmix, "in [0, 1]")
        require(0 <= self.momentum < 1, "train.momentum", self.momentum, "in [0, 1)")
        require(self.workers >= -1, "train.workers", self.workers, "-1 or more")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    window: Doc[str, "auto (the dataset's protocol), none (whole image), or the side of the sliding window"] = "auto"
    stride: Doc[float, "step of the sliding window as a fraction of its side"] = 2 / 3
    batch: Doc[int, "windows or images of equal shape per forward"] = 8

    def __post_init__(self) -> None:
        known = self.window in ("auto", "none") or (self.window.isdecimal() and int(self.window) >= 32)
        require(known, "eval.window", self.window, "auto, none, or a side of 32 pixels or more")
        require(0 < self.stride <= 1, "eval.stride", self.stride, "in (0, 1]")
        require(self.batch >= 1, "eval.batch", self.batch, "1 or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run is made of. `method` is the settings dataclass of the method called `method_name`.

    `extras` are the settings of the plug-ins that are added to it, by their names.
    """

    method_name: str
    method: Any
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method with its plug-ins, e.g. unimatch+interpixel."""
        return "+".join([self.method_name, *self.extras])

    @property
    def split_seed(self) -> int:
        """The seed of an own partition: `data.split_seed`, or that of the run where it is negative."""
        return self.train.seed if self.data.split_seed < 0 else self.data.split_seed


@cache
def hints(cls: type) -> dict[str, Any]:
    """Field name to `Annotated` type of a settings dataclass."""
    return get_type_hints(cls, include_extras=True)


def doc(cls: type, name: str) -> str:
    """The documentation of one setting, e.g. `doc(TrainConfig, "steps")`."""
    return str(hints(cls)[name].__metadata__[0])
