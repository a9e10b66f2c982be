"""What a method is made of. A paper is one file that subclasses `SemiSupervised` and reads beside the paper.

Shapes are spelt as in `core/types.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated as Doc
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from torch import Tensor, nn

from semiseg_cli.core.networks import Decoder, Net, Out
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.settings import BaseSettings, Below1, Config
from semiseg_cli.core.types import (
    Batch,
    Clock,
    CutMix,
    Images,
    Labeled,
    Moment,
    Pseudo,
    SemiBatch,
    StrongView,
)

__all__ = [
    "Batch", "Build", "Clock", "CutMix", "Decoder", "Group", "Images", "Labeled", "Method", "Moment", "Net", "Out",
    "Pseudo", "SemiBatch", "SemiSettings", "SemiSupervised", "Step", "StepOutput", "StrongView", "Term", "ViewKind",
    "Views", "Weak", "cutmixed",
]  # fmt: skip

AnyBatch = TypeVar("AnyBatch", bound=Batch)
ViewKind = Literal["weak", "strong", "feature", "masked", "scaled"]


@dataclass(frozen=True)
class Term:
    """One student view that is being taught: which network, its input (normalised), its logits, its pseudo-labels.

    view: what it is: the weak view itself; strongly augmented; the weak one with perturbed features, or with parts of
    it hidden; or any at another scale.
    """

    name: str
    view: ViewKind
    net: Net
    image_B3HW: Tensor
    logits_BKHW: Tensor
    pseudo: Pseudo
    kept_BHW: Tensor | None = None  # weight of every pixel in the loss, before any normaliser


@dataclass(frozen=True)
class Weak:
    """The weak view and its pseudo-labels, for plug-ins that add a view of their own."""

    net: Net
    image_B3HW: Tensor
    pseudo: Pseudo


@dataclass(frozen=True)
class StepOutput:
    """What a backward pass is of. `losses` are weighted already; the total is their sum.

    `stats` are to log: scalars, or vectors (K,) with an entry for each class, which the log gives the classes' names.
    Some are also put into words: `kept` and `largest_class` (shares), `kept_pixels` (by class) and `unseen` (by class:
    1 as long as no labeled pixel of it was met). `pictures` are tensors of the step, detached, that `semiseg viz` draws
    and training never reads.
    """

    losses: dict[str, Tensor]
    stats: dict[str, Tensor] = field(default_factory=dict)
    terms: tuple[Term, ...] = ()
    weak: Weak | None = None
    pictures: Mapping[str, Tensor] = field(default_factory=dict)

    def plus(self, more: StepOutput) -> StepOutput:
        """The two as one: what was added to a step, or its next pass."""
        assert not self.losses.keys() & more.losses.keys()
        return replace(
            self,
            losses={**self.losses, **more.losses},
            stats={**self.stats, **more.stats},
            terms=self.terms + more.terms,
            weak=more.weak or self.weak,
            pictures={**self.pictures, **more.pictures},
        )


Step = StepOutput | Iterator[StepOutput]


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate: `train.lr`, times the head's multiplier if `head`, times `lr_mult`."""

    params: Sequence[nn.Parameter]
    head: bool = False
    lr_mult: float = 1.0
    schedule: Literal["poly", "constant"] = "poly"


class Build(Protocol):
    """Given to a method, which never imports models: makes networks for this run's backbone, decoder and classes."""

    classes: int
    seed: int  # of the run, for what a method initialises itself

    def segmenter(self, head_seed: int = 0) -> Net: ...
    def decoder(self, head_seed: int = 1) -> Decoder: ...
    def teacher(self, net: Net) -> Teacher[Net]: ...
    def labeled_loss(self, logits_BKHW: Tensor, labeled: Labeled) -> Tensor: ...


class Views(Protocol):
    """Random views. Every draw is a function of (seed, step, slot, key); see `views.device.DeviceViews`."""

    @property
    def partner(self) -> Views: ...
    def normalise(self, rgb01_B3HW: Tensor) -> Tensor: ...
    def weak(self, images: Images) -> Tensor: ...
    def strong(self, images: Images, key: str, view: StrongView | None = None) -> Tensor: ...
    def cutmix(self, images: Images, key: str, partner: Images | None = None, rectangles: int = 1) -> CutMix: ...
    def neighbours(self) -> Tensor: ...
    def step_neighbours(self) -> Tensor: ...
    def patches(
        self, key: str, patch: int, ratio: float, kind: Literal["random", "block", "grid"] = "random",
        exact: bool = True,
    ) -> Tensor: ...
    def table(self, key: str, count: int, recipe: Callable[[Any], Any]) -> Tensor: ...
    def uniform(self, key: str, count: int) -> Tensor: ...
    def channels(self, key: str, maps: Sequence[Tensor], rate: float = 0.5) -> list[Tensor]: ...
    def complementary(self, key: str, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]: ...


class Method(nn.Module, ABC, Generic[AnyBatch]):
    """A paper: its networks, teachers and memories are its own, and `step` is its equations."""

    Settings: ClassVar[type]  # frozen dataclass of `method.*` settings
    defaults: ClassVar[Mapping[str, Any]] = {}  # what the paper changes in the run's configuration
    offers: ClassVar[frozenset[str]] = frozenset({"terms", "weak"})  # what its steps give plug-ins to act on
    includes: ClassVar[frozenset[str]] = frozenset()  # plug-ins whose loss is part of the method
    # settings that switch off the terms that depend on how a batch is divided, if there are such: a memory, a prototype
    divisible: ClassVar[Mapping[str, Any]] = {}
    untaught: ClassVar[str] = "padding"  # what those pixels of an unlabeled image are that `valid_BHW` leaves out
    net: Net

    def __init__(self, settings: Any, build: Build) -> None:
        super().__init__()
        self.settings = settings
        self.build = build

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        """What the loader must bring beside labeled images, any of: "unlabeled"; "mix", partners for CutMix, or with
        "second" another weak draw of each image as its partner; "paired", the labeled image most like each."""
        return frozenset()

    def takes(self, name: str) -> bool:
        return name in self.inputs(self.settings)

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise BadSetting (`require`) for settings that are possible alone but not together, before anything is made.

        `config.method` holds the method's settings; a patch larger than `config.train.crop` is such a case.
        """

    @classmethod
    def hint(cls, config: Config) -> str:
        """A line on settings that are possible, but in a run of `config.train.steps` do not what they are for."""
        return ""

    @classmethod
    def unread(cls, settings: Any) -> Mapping[str, str]:
        """Settings of `train` that no step reads, each with the words that complete "nothing reads it where ...".

        Another value than its default, or than `defaults` has, is refused.
        """
        return {}

    def groups(self) -> list[Group]:
        """Trained parameters: encoders at `train.lr`, everything else at the head's rate."""
        encoder: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                (encoder if ".encoder." in f".{name}" else head).append(parameter)
        return [Group(encoder), Group(head, head=True)]

    @property
    def warmup(self) -> float:
        """Fraction of the run that learns from labels alone, in [0, 1)."""
        return 0.0

    def stage(self, clock: Clock) -> str:
        """What the steps of this time have in common: "labels" during the warm-up, then "main"."""
        return "labels" if clock.progress < self.warmup else "main"

    def label_step(self, batch: AnyBatch, views: Views) -> StepOutput:
        """A step of the warm-up: labeled images alone. A method that trains more than `net` by labels says how."""
        return StepOutput({"labeled": self.build.labeled_loss(self.net(views.weak(batch.labeled)), batch.labeled)})

    @abstractmethod
    def step(self, batch: AnyBatch, views: Views) -> Step:
        """The paper: losses of one micro-batch. Called under autocast, in training mode.

        A method that differentiates a part before it computes the next yields the parts instead (a generator).
        Means are over the global batch where what they are divided by is known before the forward pass.
        What changes with time is `batch.clock.value(rule, like)`, a ramp for one; `rule` is given the clock, whose
        `stage_progress` counts from the end of the warm-up.
        """

    def after_step(self, moment: Moment) -> None:
        """Called once after every optimiser step, and part of it: EMA teachers, memories."""

    def settle(self, clock: Clock) -> None:
        """Called between two steps: what must wait for the device, now and then. It writes in place."""

    def deployed(self) -> Net:
        """The network that is evaluated and exported."""
        return self.net


@dataclass(frozen=True, kw_only=True)
class SemiSettings(BaseSettings):
    """What every semi-supervised method can be told. No paper warms up; short runs need it."""

    warmup: Doc[Below1, "fraction of the run that learns from labels alone"] = 0.0


class SemiSupervised(Method[SemiBatch]):
    """A method that learns from unlabeled images as well."""

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        return frozenset({"unlabeled", "mix"})

    @property
    def warmup(self) -> float:
        return float(self.settings.warmup)


def cutmixed(
    views: Views, batch: SemiBatch, weak: Pseudo, key: str, partner: Pseudo | None = None,
    view: StrongView | None = None,
) -> tuple[Tensor, Pseudo]:  # fmt: skip
    """A strong view of the unlabeled images with CutMix, and their pseudo-labels mixed alike.

    view: of the paper's own; the run's, if it has none.

    An image's partner is its neighbour in the global batch, or `batch.partner` with pseudo-labels `partner` where that
    is given; it is strongly augmented by draws of its own.
    """
    images, others = batch.unlabeled, batch.partner
    mix = views.cutmix(images, key, others)
    pasted = None if others is None else views.partner.strong(others, key, view)
    return mix(views.strong(images, key, view), pasted), weak.mix(mix, partner)
