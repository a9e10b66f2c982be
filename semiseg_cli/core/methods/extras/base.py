"""What a plug-in is made of, and a method with plug-ins added to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from semiseg_cli.core.methods.base import Batch, Build, Clock, Group, Method, Net, StepOutput, Views
from semiseg_cli.core.settings import Config


class Extra(nn.Module, ABC):
    """A loss that acts on the terms, or on the weak view, of whatever method runs.

    Networks and teachers of its own are trained and saved with the method's. Every trainable parameter needs a
    gradient in every step, zero where it is not used: processes that train together wait for it.
    """

    Settings: ClassVar[type]  # frozen dataclass of the settings `<name of the plug-in>.*`
    acts_on: ClassVar[Literal["terms", "weak"]]

    def __init__(self, settings: Any, build: Build) -> None:
        super().__init__()
        self.settings = settings
        self.build = build

    @classmethod
    def check(cls, settings: Any, config: Config) -> None:
        """As `Method.check`, for settings of the plug-in."""

    @abstractmethod
    def step(self, out: StepOutput, batch: Batch, views: Views) -> StepOutput:
        """Losses, stats and terms to add to `out`, what the method's step gave; nothing while it teaches nothing."""

    def groups(self) -> list[Group]:
        """Its trained parameters, at the head's rate."""
        return [Group([p for p in self.parameters() if p.requires_grad], head=True)]

    def after_step(self, clock: Clock) -> None:
        """Called once after every optimiser step."""


class Extended(Method):
    """A method with plug-ins: its own step, then what each of them adds, in their order."""

    def __init__(self, method: Method, extras: Mapping[str, Extra]) -> None:
        super().__init__(method.settings, method.build)
        self.method, self.extras = method, nn.ModuleDict(extras)

    def _each(self) -> list[Extra]:
        return [extra for extra in self.extras.values() if isinstance(extra, Extra)]

    def phases(self, clock: Clock) -> int:
        return self.method.phases(clock)

    def groups(self) -> list[Group]:
        return [*self.method.groups(), *(group for extra in self._each() for group in extra.groups())]

    def step(self, batch: Batch, views: Views, phase: int = 0, carry: Any = None) -> StepOutput:
        out = own = self.method.step(batch, views, phase, carry)
        for extra in self._each():
            out = out.plus(extra.step(own, batch, views))
        return out

    def after_step(self, clock: Clock) -> None:
        self.method.after_step(clock)
        for extra in self._each():
            extra.after_step(clock)

    def deployed(self) -> Net:
        return self.method.deployed()
