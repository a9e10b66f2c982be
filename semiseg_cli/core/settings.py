"""The settings: frozen dataclasses, each field documented and bounded in its type, and checked on creation.

Help texts, `semiseg methods` and errors read the same words. A method's own `Settings` are written the same way:

    @dataclass(frozen=True, kw_only=True)
    class Settings(BaseSettings):
        tau: Doc[Probability, "confidence threshold"] = 0.95
        cap: Doc[float, Range(0, 0.5, open="("), "largest share"] = 0.5

Conditions between settings are `require(...)` in `__post_init__`, after super's. `Doc` is `typing.Annotated` under a
name that says what its last part is; it is imported from typing so that checkers see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from semiseg_cli.core.errors import UsageError


class BadSetting(UsageError):
    """A setting whose value is not allowed; `setting` is its dotted name, so that its origin can be looked up."""

    def __init__(self, setting: str, value: Any, allowed: str, origin: str = "", fix: str = "") -> None:
        what = f"{setting} = {value!r} is not possible: it must be {allowed}"
        super().__init__(what, fix=fix or f"--set {setting}=VALUE")
        self.setting, self.value, self.allowed = setting, value, allowed
        self.set_by(origin)

    def set_by(self, origin: str) -> None:
        self.origin, self.why = origin, f"it was set by: {origin}" if origin else ""


class Unread(BadSetting):
    """A setting away from its default where nothing reads it: see `unread`."""

    def __init__(self, setting: str, value: Any, default: Any, where: str) -> None:
        allowed = f"{default!r}, its default, where {where}: nothing reads it there"
        super().__init__(setting, value, allowed, fix=f"--set {setting}={default}")
        self.default = default


def require(ok: bool, setting: str, value: Any, allowed: str) -> None:
    """Raise BadSetting unless `ok`. `allowed` completes the sentence "it must be ..."."""
    if not ok:
        raise BadSetting(setting, value, allowed)


def unread(settings: BaseSettings, name: str, where: str) -> None:
    """Raise Unread for a setting that was given another value than its default where nothing reads it.

    `where` completes the sentence "it must be ..., its default, where ...".
    """
    default, value = getattr(type(settings), name), getattr(settings, name)
    if value != default:
        raise Unread(f"{settings.section}.{name}", value, default, where)


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; `open` holds the brackets of the ends that are left out: "(", ")" or "()"."""

    low: float
    high: float = math.inf
    open: str = ""

    def __contains__(self, number: float) -> bool:
        above = number > self.low if "(" in self.open else number >= self.low
        return above and (number < self.high if ")" in self.open else number <= self.high)

    def __str__(self) -> str:
        """In words that complete "it must be ..."."""
        if self.high == math.inf:
            return f"more than {self.low:g}" if "(" in self.open else f"{self.low:g} or more"
        return self.signs

    @property
    def signs(self) -> str:
        """As a table shows it after the type."""
        if self.high == math.inf:
            return f"{'>' if '(' in self.open else '>='} {self.low:g}"
        return f"in {'(' if '(' in self.open else '['}{self.low:g}, {self.high:g}{')' if ')' in self.open else ']'}"


Probability = Doc[float, Range(0, 1)]
Below1 = Doc[float, Range(0, 1, open=")")]  # the decay of a moving average, a fraction that leaves something
NotNegative = Doc[float, Range(0)]
Positive = Doc[float, Range(0, open="(")]
Natural = Doc[int, Range(0)]
Count = Doc[int, Range(1)]


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """What all settings are built on. `section` is the first part of their dotted names: a plug-in's is its own.

    renamed: what settings were called before, and what they are called now; the old name is still taken.
    retired: settings that are gone, with the number, word or truth that every run has now. Files that say it are read.
    """

    section = "method"
    renamed: ClassVar[Mapping[str, str]] = {}
    retired: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        """Raise BadSetting for a number that is not in the range of its type."""
        cls: type = type(self)
        for name, hint in hints(cls).items():
            value = getattr(self, name)
            require(_fits(value, hint), f"{self.section}.{name}", value, limits(hint))


def ranges(hint: Any) -> list[Range]:
    """The ranges that a type itself states, not those of its parts."""
    return [part for part in get_args(hint) if isinstance(part, Range)]


def limits(hint: Any) -> str:
    """The ranges that a type states, in words that complete "it must be ..."; empty where it states none.

    The parts of a tuple are all of one type.
    """
    if own := " and ".join(map(str, ranges(hint))):
        return own
    inner = limits(get_args(hint)[0]) if get_origin(hint) in (Doc, tuple) else ""
    return f"{inner} each" if inner and get_origin(hint) is tuple else inner


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return all(_fits(item, get_args(hint)[0]) for item in value)
    inner = get_origin(hint) is not Doc or _fits(value, get_args(hint)[0])
    return inner and all(value in each for each in ranges(hint))


@dataclass(frozen=True, kw_only=True)
class DataConfig(BaseSettings):
    section = "data"

    name: Doc[str, "prepared dataset: a folder below the data root"] = ""
    labeled: Doc[str, "labeled images: a count (183, classic/183), a fraction (1/8) or a list file; empty: all"] = ""
    balance: Doc[str, "how an own partition is drawn: classes (every class, rare ones first) or random"] = "classes"
    split_seed: Doc[int, Range(-1), "seed of an own partition; -1 takes train.seed"] = -1
    long_side: Doc[Natural, "larger images are shown reduced to this many pixels; 0: as they were prepared"] = 0
    cache: Doc[
        Literal["host", "device"],
        "where decoded images are kept: host, as many as train.cache_mb allows, warped by loader processes; or device: "
        "all of them in a GPU's memory, warped there, the same to within a grey level, without such processes",
    ] = "host"
    pairs: Doc[str, "file of `semiseg pair`, where a method takes pairs; empty: the newest of this partition"] = ""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(BaseSettings):
    section = "model"

    backbone: Doc[str, "encoder"] = "resnet50"
    decoder: Doc[str, "decoder; auto: the one for the encoder, deeplabv3plus for a pyramid, dpt for patches"] = "auto"
    output_stride: Doc[
        Literal[8, 16, 32], "input size over the last feature map's size; of an encoder of patches it is the patch"
    ] = 16
    weights: Doc[str, "encoder weights: imagenet, none or a safetensors file; auto: imagenet if it exists"] = "auto"
    upsampling: Doc[
        Literal["bilinear", "corners", "nearest"],
        "of maps and logits within the network: bilinear; the same with corners aligned, as published, which shifts "
        "them where sides are not 16 n + 1; or nearest, which repeats exactly on CUDA",
    ] = "bilinear"
    freeze_bn: Doc[bool, "encoder batch norms keep their running statistics (for small batches)"] = False
    freeze_encoder: Doc[bool, "the encoder stays as its weights are, and the rest learns on what it gives"] = False


FREQUENCY = ("none", "sqrt", "inverse")  # train.class_weights that name no class


def weights_by_name(text: str) -> dict[str, float] | None:
    """The weights of `road=2,pole=4` by class; None for a text that is not so."""
    found = dict[str, float]()
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            return None
        if not name.strip() or name.strip() in found or not 0 <= weight < math.inf:
            return None
        found[name.strip()] = weight
    return found


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseSettings):
    section = "train"
    retired: ClassVar[Mapping[str, Any]] = {"poly_power": 0.9, "channels_last": True, "sync_bn": True}

    steps: Doc[Natural, "optimiser steps; 0: as many as train.epochs are"] = 40000
    epochs: Doc[Natural, "passes over the unlabeled images, which become train.steps where those are 0"] = 0
    batch: Doc[Count, "labeled images per step over all devices; as many unlabeled ones come with them"] = 16
    micro_batch: Doc[Natural, "labeled images per forward on one device; 0: no accumulation"] = 0
    crop: Doc[int, Range(32), "side of the square training crop in pixels"] = 321
    scale: Doc[tuple[Positive, Positive], "range of the random rescaling of the weak view"] = (0.5, 2.0)
    rotation: Doc[float, Range(0, 180), "largest random rotation of the weak view in degrees, either way"] = 0.0
    colour: Doc[Probability, "strength of the strong views' colour augmentation; 1 as published, 0 none"] = 1.0
    strong_view: Doc[str, "how strong views alter the weak one's pixels: photometric, as published"] = "photometric"
    cutmix: Doc[Probability, "probability that a strong view has a CutMix box; 0.5 as published"] = 0.5
    optimizer: Doc[Literal["sgd", "adamw"], "optimiser"] = "sgd"
    lr: Doc[Positive, "learning rate of the encoder at this batch"] = 0.002
    head_lr_multiplier: Doc[Positive, "everything but the encoder learns this many times faster"] = 10.0
    momentum: Doc[Below1, "SGD momentum"] = 0.9
    weight_decay: Doc[NotNegative, "weight decay on every parameter"] = 1e-4
    warmup_steps: Doc[Natural, "steps over which the learning rate rises linearly from zero"] = 0
    grad_clip: Doc[NotNegative, "largest gradient norm; 0: no clipping"] = 0.0
    loss: Doc[Literal["ce", "ohem"], "loss on labeled pixels"] = "ce"
    class_weights: Doc[
        str,
        "weights of the labeled loss: none, sqrt or inverse by class frequency, or by name, road=2,pole=4, the other "
        "classes 1",
    ] = "none"
    eval_every: Doc[Natural, "steps between evaluations; 0: only at the end"] = 2000
    best_by: Doc[
        str,
        "what the best network is chosen by in the evaluations: miou, iou:CLASS, or boundary, the F-score of borders",
    ] = "miou"
    patience: Doc[
        Natural,
        "evaluations in a row without a better network that end a run; 0: none do. The validation images then decide "
        "how long it trains",
    ] = 0
    pooled_images: Doc[
        Natural,
        "training images, shown whole, of which the batch norm behind the image's mean (DeepLabV3+, UPerNet) takes its "
        "statistics in every network that is measured and saved, while a teacher labels with its batch's; 0: those of "
        "the crops, as published",
    ] = 0
    save_every: Doc[Count, "steps between saved resume states"] = 1000
    log_every: Doc[Count, "steps between log lines"] = 50
    on_nonfinite: Doc[
        Literal["stop", "skip"],
        "a loss or gradient that is not finite: stop the run, or skip the step, which then changes nothing",
    ] = "stop"
    amp: Doc[Literal["auto", "bf16", "off"], "bfloat16 autocast; auto: on CUDA, and on a CPU that has it"] = "auto"
    workers: Doc[int, Range(-1), "loader processes; -1: chosen from the machine"] = -1
    threads: Doc[Natural, "threads on a CPU; 0: OMP_NUM_THREADS, or as many as the step's work is worth"] = 0
    cache_mb: Doc[Natural, "RAM for decoded images, shared by the loader processes; 0: none"] = 2048
    graph: Doc[
        Literal["auto", "on", "off"],
        "whole steps as CUDA graphs, with the same results and less work for the host; auto: on CUDA; on: only there",
    ] = "auto"
    compile: Doc[bool, "torch.compile of all networks (CUDA)"] = False
    seed: Doc[Natural, "every random draw follows from it"] = 0
    deterministic: Doc[bool, "only operations that repeat exactly (slower on CUDA), an error where none does"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= (self.epochs == 0), "train.steps", self.steps, "1 or more, or 0 with train.epochs")
        divides = self.micro_batch == 0 or self.batch % self.micro_batch == 0
        require(divides, "train.micro_batch", self.micro_batch, f"0 or a divisor of train.batch = {self.batch}")
        require(self.scale[0] <= self.scale[1], "train.scale", self.scale, "two factors, 0 < smallest <= largest")
        if self.class_weights not in FREQUENCY:
            allowed = "none, sqrt, inverse, or weights of 0 or more by name: road=2,pole=4"
            require(weights_by_name(self.class_weights) is not None, "train.class_weights", self.class_weights, allowed)
        chosen = self.best_by in ("miou", "boundary") or bool(self.best_by.partition("iou:")[2])
        require(chosen, "train.best_by", self.best_by, "miou, iou:CLASS or boundary")
        counted = not self.patience or self.eval_every > 0
        require(counted, "train.patience", self.patience, "0 where train.eval_every is 0: it counts evaluations")
        if self.colour == 0:
            unread(self, "strong_view", "train.colour is 0")
        if self.optimizer != "sgd":
            unread(self, "momentum", f"train.optimizer is {self.optimizer}")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(BaseSettings):
    section = "eval"

    window: Doc[str, "auto (the dataset's protocol), none (whole image), or the side of the sliding window"] = "auto"
    stride: Doc[float, Range(0, 1, open="("), "step of the sliding window as a fraction of its side"] = 2 / 3
    batch: Doc[Count, "windows or images of equal shape per forward"] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.window in ("auto", "none") or (self.window.isdecimal() and int(self.window) >= 32)
        require(known, "eval.window", self.window, "auto, none, or a side of 32 pixels or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run is made of. `method` is the settings dataclass of the method called `method_name`.

    `plugins` are the settings of the plug-ins that are added to it, by their names.
    """

    method_name: str
    method: Any
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig
    plugins: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method with its plug-ins, e.g. unimatch+interpixel."""
        return "+".join([self.method_name, *self.plugins])

    @property
    def split_seed(self) -> int:
        """The seed of an own partition: `data.split_seed`, or that of the run where it is negative."""
        return self.train.seed if self.data.split_seed < 0 else self.data.split_seed


@cache
def hints(cls: type) -> dict[str, Any]:
    """Field name to `Annotated` type of a settings dataclass."""
    found = get_type_hints(cls, include_extras=True)
    return {each.name: found[each.name] for each in fields(cls)}


def doc(cls: type, name: str) -> str:
    """The documentation of one setting with its range, e.g. `doc(TrainConfig, "steps")`."""
    hint = hints(cls)[name]
    return f"{hint.__metadata__[-1]} ({limits(hint)})" if limits(hint) else str(hint.__metadata__[-1])
