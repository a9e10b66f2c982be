"""Mean teacher. Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780; for pixels with CutMix as in French et al.,
BMVC 2020, arXiv 1906.01916.

One student, one EMA teacher. The teacher labels the weak view; the student learns those labels on one strong view with
CutMix: L = L_x + lambda_u L_u. The teacher is evaluated.

Departures: cross-entropy on hard pseudo-labels instead of the papers' squared difference of probabilities, and a decay
of min((1 + step) / (10 + step), alpha), so that short runs work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

import torch

from semiseg_cli.core.methods.base import (
    Batch,
    Build,
    Clock,
    Method,
    Net,
    Pseudo,
    StepOutput,
    Term,
    Views,
    Weak,
    cutmixed,
)
from semiseg_cli.core.ops.losses import kept_weights, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.settings import require


@dataclass(frozen=True, kw_only=True)
class MeanTeacherSettings:
    alpha: Doc[float, "decay of the teacher's moving average, in [0, 1)"] = 0.99
    weight: Doc[Literal["threshold", "confidence"], "count pixels from tau on, or by confidence"] = "threshold"
    tau: Doc[float, "confidence a pseudo-label needs, in [0, 1]"] = 0.95
    normaliser: Doc[Literal["valid", "image"], "the batch's valid pixels, or each image's kept ones"] = "valid"
    lambda_u: Doc[float, "weight of the unlabeled loss"] = 1.0
    warmup: Doc[float, "fraction of the run before pseudo-labels are used, in [0, 1)"] = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.tau <= 1, "method.tau", self.tau, "in [0, 1]")
        require(0 <= self.alpha < 1, "method.alpha", self.alpha, "in [0, 1)")
        require(0 <= self.warmup < 1, "method.warmup", self.warmup, "in [0, 1)")


class MeanTeacher(Method):
    Settings = MeanTeacherSettings

    def __init__(self, settings: MeanTeacherSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.teacher = build.teacher(self.net)

    def step(self, batch: Batch, views: Views, phase: int = 0, carry: Any = None) -> StepOutput:
        settings, labeled, unlabeled = self.settings, batch.labeled, batch.unlabeled
        assert labeled.mask_BHW is not None
        assert unlabeled is not None
        x_l = views.weak(labeled)
        if batch.clock.progress < settings.warmup:
            return StepOutput({"labeled": self.build.labeled_loss(self.net(x_l), labeled.mask_BHW)})

        x_w = views.weak(unlabeled)
        weak = Pseudo.of(self.teacher(x_w), unlabeled.valid_BHW)
        x_s, pseudo = cutmixed(views, unlabeled, weak, "s1")
        logits_l, logits_s = self.net(torch.cat([x_l, x_s])).split([len(x_l), len(x_s)])

        kept = kept_weights(pseudo, settings.tau, settings.weight)
        loss_u = pseudo_label_loss(logits_s, pseudo, kept, settings.normaliser)
        return StepOutput(
            {
                "labeled": self.build.labeled_loss(logits_l, labeled.mask_BHW),
                "strong": settings.lambda_u * loss_u,
            },
            pseudo_stats(pseudo, kept),
            (Term("strong", self.net, x_s, logits_s, pseudo, kept),),
            Weak(self.net, x_w, weak),
        )

    def after_step(self, clock: Clock) -> None:
        self.teacher.follow(self.net, clock.step, self.settings.alpha)

    def deployed(self) -> Net:
        return self.teacher.net
