"""What a method is made of. A paper is one file that subclasses `Method` and reads beside the paper.

Shapes are spelt as in `core/types.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from semiseg_cli.core.ops.mix import cutmix
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.settings import Config
from semiseg_cli.core.types import Batch, Clock, Decoder, Images, Net, Out, Pseudo

__all__ = [
    "Batch", "Build", "Clock", "Decoder", "Group", "Images", "Method", "Net", "Out", "Pseudo", "StepOutput", "Term",
    "Views", "Weak", "cutmixed",
]  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One student view that is being taught: which network, its input (normalised), its logits, its pseudo-labels."""

    name: str
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
    """What a step gives. `losses` are weighted already; the total is their sum.

    `stats` are to log: scalars, or vectors (K,) with an entry for each class, which the log gives the classes' names.
    Some are also put into words: `kept` and `largest_class` (shares), `kept_pixels` (by class) and `unseen` (by class:
    1 as long as no labeled pixel of it was met). `carry` goes to the next phase of the same micro-batch. `pictures`
    are tensors of the step, detached, that `semiseg viz` draws and training never reads.
    """

    losses: dict[str, Tensor]
    stats: dict[str, Tensor] = field(default_factory=dict)
    terms: tuple[Term, ...] = ()
    weak: Weak | None = None
    carry: Any = None
    pictures: Mapping[str, Tensor] = field(default_factory=dict)

    def plus(self, more: StepOutput) -> StepOutput:
        """This step with the losses, stats and terms of something added to it."""
        assert not self.losses.keys() & more.losses.keys()
        return replace(
            self,
            losses={**self.losses, **more.losses},
            stats={**self.stats, **more.stats},
            terms=self.terms + more.terms,
        )

    def then(self, later: StepOutput) -> StepOutput:
        """This phase and the next one of the same micro-batch as one step."""
        return StepOutput(
            self.losses | later.losses,
            self.stats | later.stats,
            self.terms + later.terms,
            later.weak or self.weak,
            later.carry,
            {**self.pictures, **later.pictures},
        )


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
    def labeled_loss(self, logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor: ...


class Views(Protocol):
    """Random views. Every draw is a function of (seed, step, slot, key); images come back normalised."""

    def weak(self, images: Images) -> Tensor: ...
    def strong(self, images: Images, key: str, colour: bool = True) -> Tensor: ...
    def boxes(self, key: str, rectangles: int = 1) -> Tensor: ...
    def patches(
        self, key: str, patch: int, ratio: float, kind: Literal["random", "block", "grid"] = "random",
        exact: bool = True,
    ) -> Tensor: ...
    def uniform(self, key: str, count: int) -> Tensor: ...
    def partners(self, key: str) -> Tensor: ...
    def channels(self, key: str, maps: Sequence[Tensor], rate: float = 0.5) -> list[Tensor]: ...


class Method(nn.Module, ABC):
    """A paper: its networks, teachers and memories are its own, and `step` is its equations."""

    Settings: ClassVar[type]  # frozen dataclass of `method.*` settings
    defaults: ClassVar[Mapping[str, Any]] = {}  # what the paper changes in the run's configuration
    offers: ClassVar[frozenset[str]] = frozenset({"terms", "weak"})  # what its steps give plug-ins to act on
    includes: ClassVar[frozenset[str]] = frozenset()  # plug-ins whose loss is part of the method

    def __init__(self, settings: Any, build: Build) -> None:
        super().__init__()
        self.settings = settings
        self.build = build

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        """What the loader must bring beside labeled images: any of "unlabeled", "second", "paired"."""
        return frozenset({"unlabeled"})

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise BadSetting (`require`) for settings that are possible alone but not together, before anything is made.

        `config.method` holds the method's settings; a patch larger than `config.train.crop` is such a case.
        """

    def groups(self) -> list[Group]:
        """Trained parameters: encoders at `train.lr`, everything else at the head's rate."""
        encoder: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                (encoder if ".encoder." in f".{name}" else head).append(parameter)
        return [Group(encoder), Group(head, head=True)]

    def phases(self, clock: Clock) -> int:
        """Backward passes of this step: `step` is called once for each, and told the number of the phase."""
        return 1

    @abstractmethod
    def step(self, batch: Batch, views: Views, phase: int = 0, carry: Any = None) -> StepOutput:
        """The paper: losses of one micro-batch. Called under autocast, in training mode."""

    def after_step(self, clock: Clock) -> None:
        """Called once after every optimiser step: EMA teachers, memories."""

    @abstractmethod
    def deployed(self) -> Net:
        """The network that is evaluated and exported."""


def cutmixed(
    views: Views, images: Images, pseudo: Pseudo, key: str, second: tuple[Images, Pseudo] | None = None
) -> tuple[Tensor, Pseudo]:
    """A strong view with CutMix, and its pseudo-labels mixed alike.

    The partner is another image of the micro-batch, or (`second`: images and their pseudo-labels) the same image in a
    second weak draw, as the loaders of UniMatch v1 have it. The partner is strongly augmented by draws of its own.
    """
    strong, boxes = views.strong(images, key), views.boxes(key)
    if second is not None:
        return cutmix(strong, views.strong(second[0], f"{key}/second"), boxes), pseudo.mix(second[1], boxes)
    order = views.partners(key)
    return cutmix(strong, strong[order], boxes), pseudo.mix(pseudo.take(order), boxes)
