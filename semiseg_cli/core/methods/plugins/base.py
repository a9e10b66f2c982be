"""What a plug-in is made of, and a method with plug-ins added to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from semiseg_cli.core.methods.base import Batch, Build, Clock, Group, Method, Moment, Net, StepOutput, Views
from semiseg_cli.core.settings import Config


class PlugIn(nn.Module, ABC):
    """A loss that acts on the terms, or on the weak view, of whatever method runs.

    Networks and teachers of its own are trained and saved with the method's.
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
        """Losses, stats and terms to add to `out`, what a pass of the method gave; nothing where it teaches nothing."""

    def groups(self) -> list[Group]:
        """Its trained parameters, at the head's rate."""
        return [Group([p for p in self.parameters() if p.requires_grad], head=True)]

    def after_step(self, moment: Moment) -> None:
        """Called once after every optimiser step."""

    def settle(self, clock: Clock) -> None:
        """As `Method.settle`."""


class Extended(Method[Any]):
    """A method with plug-ins: its own passes, and to each what every one of them adds, in their order."""

    def __init__(self, method: Method[Any], plugins: Mapping[str, PlugIn]) -> None:
        super().__init__(method.settings, method.build)
        self.method, self.plugins = method, nn.ModuleDict(plugins)

    def _each(self) -> list[PlugIn]:
        return [plugin for plugin in self.plugins.values() if isinstance(plugin, PlugIn)]

    def takes(self, name: str) -> bool:
        return self.method.takes(name)

    @property
    def warmup(self) -> float:
        return self.method.warmup

    def stage(self, clock: Clock) -> str:
        return self.method.stage(clock)

    def groups(self) -> list[Group]:
        return [*self.method.groups(), *(group for plugin in self._each() for group in plugin.groups())]

    def label_step(self, batch: Any, views: Views) -> StepOutput:
        return self.method.label_step(batch, views)

    def step(self, batch: Any, views: Views) -> Iterator[StepOutput]:
        own = self.method.step(batch, views)
        for out in [own] if isinstance(own, StepOutput) else own:
            whole = out
            for plugin in self._each():
                whole = whole.plus(plugin.step(out, batch, views))
            yield whole
            del out, whole  # what they hold would lie beside the next pass

    def after_step(self, moment: Moment) -> None:
        self.method.after_step(moment)
        for plugin in self._each():
            plugin.after_step(moment)

    def settle(self, clock: Clock) -> None:
        self.method.settle(clock)
        for plugin in self._each():
            plugin.settle(clock)

    def deployed(self) -> Net:
        return self.method.deployed()
