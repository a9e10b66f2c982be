"""A student with a teacher where `method.ema_teacher` asks for one, as UniMatch V2 (arXiv 2410.10777) compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import ClassVar

from semiseg_cli.core.methods.base import Build, Moment, Net, SemiSettings, SemiSupervised
from semiseg_cli.core.ops.teacher import FROM_THE_FIRST, Rule
from semiseg_cli.core.settings import Below1, Config, unread

LONGEST_MEAN = 0.1  # of a run: a teacher of more is a mean with students that knew little
GOOD_MEAN = 1 / 15  # RESULTS.md, "A teacher of a short run"


@dataclass(frozen=True, kw_only=True)
class PerhapsTaughtSettings(SemiSettings):
    ema_teacher: Doc[bool, "pseudo-labels from a moving average of the student, which is evaluated"] = False
    alpha: Doc[Below1, "decay of that moving average"] = 0.996

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ema_teacher:
            unread(self, "alpha", "method.ema_teacher is false")


class PerhapsTaught(SemiSupervised):
    """`net`, and `teacher`, its moving average, which labels and is evaluated; None where the student labels itself.

    rule: how it follows; UniMatch V2's if a method says no other.
    """

    rule: ClassVar[Rule] = FROM_THE_FIRST

    def __init__(self, settings: PerhapsTaughtSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.teacher = build.teacher(self.net) if settings.ema_teacher else None

    @classmethod
    def hint(cls, config: Config) -> str:
        settings, steps = config.method, config.train.steps
        if cls.rule is not FROM_THE_FIRST or not settings.ema_teacher:  # the usual rule's mean shortens with the run
            return ""
        if (1 - settings.alpha) * steps * LONGEST_MEAN >= 1:
            return ""
        averaged = min(round(1 / (1 - settings.alpha)), steps)
        better = 1 - float(f"{min(1 / (GOOD_MEAN * steps), 0.5):.1g}")
        return (
            f"the teacher is the mean of about {averaged} of the run's {steps} students "
            f"(method.alpha={settings.alpha:g}), too many for so short a run: -s method.alpha={better:g}"
        )

    def after_step(self, moment: Moment) -> None:
        if self.teacher is not None:
            self.teacher.update(self.net, moment, self.settings.alpha, self.rule)

    def deployed(self) -> Net:
        return self.net if self.teacher is None else self.teacher.net
