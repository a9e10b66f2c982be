"""The inter-pixel loss of IPixMatch. Wu et al., "IPixMatch: Boost Semi-supervised Semantic Segmentation with
Inter-Pixel Relation", 2024, arXiv 2404.18891.

L_sum = L_o + alpha L_IPix (eq. 6) for any method whose students learn from the logits of a teacher: over the pixels
where the teacher is confident, each class's logits become a distribution over pixels (a softmax at temperature t), and
the student's is drawn to the teacher's. `weight` is alpha; it rises as exp(-5 (1 - i/w)^2) over the first `ramp` of the
run after the warm-up (the paper: 5 of 80 epochs on VOC, 30 of 240 on Cityscapes).

Decisions: the confident pixels are taken per image; the loss is the mean over the strong views, without the weak view
masked or with dropped features (with it where a method has no other); where images were mixed (CutMix), the teacher's
logits were mixed alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import ClassVar, Literal

import torch

from semiseg_cli.core.methods.base import Batch, Clock, StepOutput, Views
from semiseg_cli.core.methods.plugins.base import PlugIn
from semiseg_cli.core.methods.plugins.pixel_distributions import inter_pixel_loss
from semiseg_cli.core.settings import BaseSettings, NotNegative, Positive, Probability


@dataclass(frozen=True, kw_only=True)
class InterPixelSettings(BaseSettings):
    section = "interpixel"
    renamed: ClassVar[Mapping[str, str]] = {"omega": "region_tau"}

    weight: Doc[NotNegative, "weight of the inter-pixel loss, alpha"] = 1.0
    distance: Doc[Literal["kl", "pearson"], "Kullback-Leibler divergence, or 1 - Pearson's correlation"] = "kl"
    temperature: Doc[Positive, "of the softmax over pixels, t"] = 4.0
    region_tau: Doc[Probability, "the loss is over pixels that the teacher is surer of than this"] = 0.8
    ramp: Doc[Probability, "fraction of the run over which the weight rises, after the warm-up; 0: at once"] = 0.0625


class InterPixel(PlugIn):
    Settings = InterPixelSettings
    acts_on = "terms"

    def step(self, out: StepOutput, batch: Batch, views: Views) -> StepOutput:
        settings = self.settings
        if not out.terms:
            return StepOutput({})
        strong = [term for term in out.terms if term.view == "strong"]
        losses = []
        for term in strong or out.terms:
            region = (term.pseudo.conf_BHW > settings.region_tau) & term.pseudo.valid_BHW  # eq. 3
            teacher, student = term.pseudo.logits_BKHW, term.logits_BKHW
            losses.append(inter_pixel_loss(teacher, student, region, settings.temperature, settings.distance))
        loss = torch.stack(losses).mean()
        return StepOutput({"interpixel": batch.clock.value(self.rising_weight, loss) * loss})

    def rising_weight(self, clock: Clock) -> float:
        """The weight of this step: exp(-5 (1 - i/w)^2) of the whole, while it rises."""
        ramp: float = self.settings.ramp
        missing = 1 - clock.stage_progress / ramp if clock.stage_progress < ramp else 0.0
        return float(self.settings.weight) * math.exp(-5 * missing**2)
