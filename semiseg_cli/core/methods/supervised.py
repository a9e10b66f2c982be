"""Supervised training on the labeled images alone: the line every other method has to beat.

It runs the same number of steps as the semi-supervised methods unless told otherwise, which is the fair comparison
(the literature's supervised baselines often run a hundredth of the steps). `strong=true` gives it the strong
augmentation of the others, CutMix included, to tell the gain of unlabeled images from the gain of augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any

from semiseg_cli.core.methods.base import Batch, Build, Method, StepOutput, Views
from semiseg_cli.core.settings import BaseSettings


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings(BaseSettings):
    strong: Doc[bool, "colour jitter, grayscale, blur and CutMix on the labeled images too"] = False


class Supervised(Method[Batch]):
    Settings = SupervisedSettings
    offers = frozenset[str]()

    def __init__(self, settings: SupervisedSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        return frozenset({"mix"} if settings.strong else set())

    @classmethod
    def unread(cls, settings: Any) -> Mapping[str, str]:
        return {} if settings.strong else dict.fromkeys(("cutmix", "colour", "strong_view"), "method.strong is false")

    def step(self, batch: Batch, views: Views) -> StepOutput:
        labeled, others = batch.labeled, batch.labeled_partner
        x = views.weak(labeled)
        if self.settings.strong:
            mix = views.cutmix(labeled, "labeled", others)
            pasted = views.partner.strong(others, "labeled") if others else None
            x = mix(views.strong(labeled, "labeled"), pasted)
            labeled = labeled.mix(mix, others)
        return StepOutput({"labeled": self.build.labeled_loss(self.net(x), labeled)})
