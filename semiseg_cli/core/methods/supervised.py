"""Supervised training on the labeled images alone: the line every other method has to beat.

It runs the same number of steps as the semi-supervised methods unless told otherwise, which is the fair comparison
(the literature's supervised baselines often run a hundredth of the steps). `strong=true` gives it the strong
augmentation of the others, CutMix included, to tell the gain of unlabeled images from the gain of augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any

from semiseg_cli.core.methods.base import Batch, Build, Method, Net, StepOutput, Views
from semiseg_cli.core.ops.mix import cutmix


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings:
    strong: Doc[bool, "colour jitter, grayscale, blur and CutMix on the labeled images too"] = False


class Supervised(Method):
    Settings = SupervisedSettings
    offers = frozenset[str]()

    def __init__(self, settings: SupervisedSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        return frozenset()

    def step(self, batch: Batch, views: Views, phase: int = 0, carry: Any = None) -> StepOutput:
        images, mask = batch.labeled, batch.labeled.mask_BHW
        assert mask is not None
        x = views.weak(images)
        if self.settings.strong:
            boxes, order = views.boxes("labeled"), views.partners("labeled")
            strong = views.strong(images, "labeled")
            x, mask = cutmix(strong, strong[order], boxes), mask[order].where(boxes, mask)
        return StepOutput({"labeled": self.build.labeled_loss(self.net(x), mask)})

    def deployed(self) -> Net:
        return self.net
