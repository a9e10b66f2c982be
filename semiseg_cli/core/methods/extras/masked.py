"""Local consistency regularization (LCR) of MaskMatch. Pan et al., "Semi-supervised Semantic Segmentation Meets Masked
Modeling: Fine-grained Locality Learning Matters in Consistency Regularization", 2023, arXiv 2312.08631.

Added to a method that labels a weak view (table 6 adds it to U2PL): most patches of the view are hidden, and the
student learns the labels of the whole from what is left (eqs. 5 and 6).

Masked images pass the network apart and leave its running statistics as they are, as in our `maskmatch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

from semiseg_cli.core.methods.base import Batch, StepOutput, Term, Views
from semiseg_cli.core.methods.extras.base import Extra
from semiseg_cli.core.ops.batchnorm import still_statistics
from semiseg_cli.core.ops.losses import confident, pseudo_label_loss
from semiseg_cli.core.settings import Config, require


@dataclass(frozen=True, kw_only=True)
class MaskedSettings:
    weight: Doc[float, "weight of the masked view's loss, lambda_2"] = 1.0
    tau: Doc[float, "a pseudo-label counts above this confidence, in [0, 1]"] = 0.9
    mask: Doc[Literal["random", "block", "grid"], "which patches are hidden; grid keeps one of four"] = "random"
    patch: Doc[int, "side of a patch in pixels, p"] = 32
    ratio: Doc[float, "probability that a patch is hidden, gamma, in [0, 1)"] = 0.7

    def __post_init__(self) -> None:
        require(self.weight >= 0, "masked.weight", self.weight, "0 or more")
        require(0 <= self.tau <= 1, "masked.tau", self.tau, "in [0, 1]")
        require(self.patch >= 1, "masked.patch", self.patch, "1 or more")
        require(0 <= self.ratio < 1, "masked.ratio", self.ratio, "in [0, 1)")


class Masked(Extra):
    Settings = MaskedSettings
    acts_on = "weak"

    @classmethod
    def check(cls, settings: Any, config: Config) -> None:
        crop = config.train.crop
        require(settings.patch <= crop, "masked.patch", settings.patch, f"at most train.crop = {crop}")

    def step(self, out: StepOutput, batch: Batch, views: Views) -> StepOutput:
        settings, weak = self.settings, out.weak
        if weak is None:
            return StepOutput({})
        hidden = views.patches("masked", settings.patch, settings.ratio, settings.mask, exact=False)
        x_m = weak.image_B3HW.masked_fill(hidden[:, None], 0.0)  # eq. 5
        with still_statistics(weak.net):
            logits = weak.net(x_m)
        kept = confident(weak.pseudo, settings.tau)
        loss = pseudo_label_loss(logits, weak.pseudo, kept, "image")  # eq. 6
        term = Term("masked", weak.net, x_m, logits, weak.pseudo, kept)
        return StepOutput({"masked": settings.weight * loss}, terms=(term,))
