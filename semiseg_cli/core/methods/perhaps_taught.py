"""A student with a teacher where `method.ema_teacher` asks for one, as UniMatch V2 (arXiv 2410.10777) compares."""

from __future__ import annotations

from typing import Any

from semiseg_cli.core.methods.base import Build, Moment, Net, SemiSupervised
from semiseg_cli.core.ops.teacher import from_the_first


class PerhapsTaught(SemiSupervised):
    """`net`, and `teacher`, its moving average, which labels and is evaluated; None where the student labels itself.

    Settings have `ema_teacher` and `alpha`, the decay. Floating-point buffers are averaged likewise.
    """

    def __init__(self, settings: Any, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.teacher = build.teacher(self.net) if settings.ema_teacher else None

    def after_step(self, moment: Moment) -> None:
        if self.teacher is not None:
            self.teacher.update(self.net, moment, self.settings.alpha, from_the_first, average_buffers=True)

    def deployed(self) -> Net:
        return self.net if self.teacher is None else self.teacher.net
