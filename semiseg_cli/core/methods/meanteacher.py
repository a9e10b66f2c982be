"""Mean teacher. Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780; for pixels with CutMix as in French et al.,
BMVC 2020, arXiv 1906.01916.

One student, one EMA teacher. The teacher labels the weak view; the student learns those labels on one strong view with
CutMix: L = L_x + lambda_u L_u. The teacher is evaluated.

Departures: cross-entropy on hard pseudo-labels instead of the papers' squared difference of probabilities; a decay of
min((1 + step) / (10 + step), alpha), so that short runs work; lambda_u is the same from the first step on, where
Tarvainen and Valpola let it rise; only unlabeled images are made consistent; the strong view has UniMatch's colour
jitter, grayscale and blur, and its CutMix box with probability `train.cutmix`, where French et al. mix half of every
image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import ClassVar, Literal

import torch

from semiseg_cli.core.methods.base import (
    Build,
    Moment,
    Net,
    Pseudo,
    SemiBatch,
    SemiSettings,
    SemiSupervised,
    StepOutput,
    Term,
    Views,
    Weak,
    cutmixed,
)
from semiseg_cli.core.ops.losses import at_least, by_confidence, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.settings import Below1, NotNegative, Probability, unread


@dataclass(frozen=True, kw_only=True)
class MeanTeacherSettings(SemiSettings):
    renamed: ClassVar[Mapping[str, str]] = {"weight": "pixel_weight"}

    alpha: Doc[Below1, "decay of the teacher's moving average"] = 0.99
    pixel_weight: Doc[Literal["threshold", "confidence"], "count pixels from tau on, or by confidence"] = "threshold"
    tau: Doc[Probability, "confidence a pseudo-label needs"] = 0.95
    normaliser: Doc[Literal["valid", "image"], "the batch's valid pixels, or each image's kept ones"] = "valid"
    lambda_u: Doc[NotNegative, "weight of the unlabeled loss"] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixel_weight == "confidence":
            unread(self, "tau", "method.pixel_weight is confidence")


class MeanTeacher(SemiSupervised):
    Settings = MeanTeacherSettings

    def __init__(self, settings: MeanTeacherSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.teacher = build.teacher(self.net)

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        settings, labeled, unlabeled, others = self.settings, batch.labeled, batch.unlabeled, batch.partner
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        weak = Pseudo.of(self.teacher(x_w), unlabeled)
        partner = Pseudo.of(self.teacher(views.weak(others)), others) if others else None
        x_s, pseudo = cutmixed(views, batch, weak, "s1", partner)
        logits_l, logits_s = self.net(torch.cat([x_l, x_s])).split([len(x_l), len(x_s)])

        kept = by_confidence(pseudo) if settings.pixel_weight == "confidence" else at_least(pseudo, settings.tau)
        loss_x = self.build.labeled_loss(logits_l, labeled)
        loss_u = pseudo_label_loss(logits_s, pseudo, kept, settings.normaliser)
        return StepOutput(
            {"labeled": loss_x, "strong": settings.lambda_u * loss_u},
            pseudo_stats(pseudo, kept),
            (Term("strong", "strong", self.net, x_s, logits_s, pseudo, kept),),
            Weak(self.net, x_w, weak),
        )

    def after_step(self, moment: Moment) -> None:
        self.teacher.update(self.net, moment, self.settings.alpha)

    def deployed(self) -> Net:
        return self.teacher.net
