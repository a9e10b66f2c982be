"""Local consistency regularization (LCR) of MaskMatch. Pan et al., "Semi-supervised Semantic Segmentation Meets Masked
Modeling: Fine-grained Locality Learning Matters in Consistency Regularization", 2023, arXiv 2312.08631.

Added to a method that labels a weak view (table 6 adds it to U2PL): most patches of the view are hidden, and the
student learns the labels of the whole from what is left (eqs. 5 and 6).

Masked images pass the network apart and leave its running statistics as they are, as in our `maskmatch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

from semiseg_cli.core.methods.base import Batch, StepOutput, Term, Views
from semiseg_cli.core.methods.plugins.base import PlugIn
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import more_than, pseudo_label_loss
from semiseg_cli.core.settings import BaseSettings, Below1, Config, Count, NotNegative, Probability, require, unread


@dataclass(frozen=True, kw_only=True)
class MaskedSettings(BaseSettings):
    section = "masked"
    renamed: ClassVar[Mapping[str, str]] = {"mask": "hidden"}

    weight: Doc[NotNegative, "weight of the masked view's loss, lambda_2"] = 1.0
    tau: Doc[Probability, "a pseudo-label counts above this confidence"] = 0.9
    hidden: Doc[Literal["random", "block", "grid"], "which patches are hidden; grid keeps one of four"] = "random"
    patch: Doc[Count, "side of a patch in pixels, p"] = 32
    ratio: Doc[Below1, "probability that a patch is hidden, gamma"] = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden == "grid":
            unread(self, "ratio", "masked.hidden is grid")


class Masked(PlugIn):
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
        hidden = views.patches("masked", settings.patch, settings.ratio, settings.hidden, exact=False)
        x_m = weak.image_B3HW.masked_fill(hidden[:, None], 0.0)  # eq. 5
        with frozen_statistics(weak.net):
            logits = weak.net(x_m)
        kept = more_than(weak.pseudo, settings.tau)
        loss = pseudo_label_loss(logits, weak.pseudo, kept, "image")  # eq. 6
        term = Term("masked", "masked", weak.net, x_m, logits, weak.pseudo, kept)
        return StepOutput({"masked": settings.weight * loss}, terms=(term,))
