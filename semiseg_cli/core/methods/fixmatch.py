"""FixMatch for segmentation. Sohn et al., NeurIPS 2020, arXiv 2001.07685; for pixels as in UniMatch, arXiv 2208.09910.

Pseudo-labels come from the student's own weak view; one strong view with CutMix is taught where the confidence
reaches tau. L = (L_x + L_s) / 2, with L_s divided by the valid pixels of the batch, not by the confident ones.

`exact_bn=true` with `cutmix_partner="self"` is the step of UniMatch's authors: labeled and weak images share a pass,
strong ones have their own. By default labeled and strong images share the pass that is trained, and the weak view is
seen without gradient, in training mode, its running statistics untouched: less to compute.

`ema_teacher=true` is UniMatch V2's baseline (arXiv 2410.10777): a moving average of the student labels the weak view,
and is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

import torch

from semiseg_cli.core.methods.base import (
    Pseudo,
    SemiBatch,
    StepOutput,
    Term,
    Views,
    Weak,
    cutmixed,
)
from semiseg_cli.core.methods.perhaps_taught import PerhapsTaught, PerhapsTaughtSettings
from semiseg_cli.core.ops.losses import at_least, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.ops.teacher import labels_by
from semiseg_cli.core.ops.uniperb import partner_labels
from semiseg_cli.core.settings import Probability, require


@dataclass(frozen=True, kw_only=True)
class FixMatchSettings(PerhapsTaughtSettings):
    tau: Doc[Probability, "confidence a pseudo-label needs"] = 0.95
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"
    exact_bn: Doc[bool, "the authors' passes instead of the lean ones"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "false with method.ema_teacher: the weak view is the teacher's alone"
        require(not (self.ema_teacher and self.exact_bn), "method.exact_bn", True, allowed)


class FixMatch(PerhapsTaught):
    Settings = FixMatchSettings

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        second = settings.cutmix_partner == "self"
        return frozenset({"unlabeled", "mix", "second"} if second else {"unlabeled", "mix"})

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        labeled, unlabeled = batch.labeled, batch.unlabeled
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        second = self.settings.cutmix_partner == "self"
        partner = partner_labels(self.net, views.weak, batch.partner, second, self.teacher)
        if self.settings.exact_bn:
            logits_l, logits_w = self.net(torch.cat([x_l, x_w])).split([len(x_l), len(x_w)])
            weak = Pseudo.of(logits_w, unlabeled)
            x_s, pseudo = cutmixed(views, batch, weak, "s1", partner)
            logits_s = self.net(x_s)
        else:
            weak = Pseudo.of(labels_by(self.teacher, self.net, x_w), unlabeled)
            x_s, pseudo = cutmixed(views, batch, weak, "s1", partner)
            logits_l, logits_s = self.net(torch.cat([x_l, x_s])).split([len(x_l), len(x_s)])

        kept = at_least(pseudo, self.settings.tau)  # [max p >= tau], eq. 4
        loss_x = self.build.labeled_loss(logits_l, labeled)
        loss_s = pseudo_label_loss(logits_s, pseudo, kept)
        return StepOutput(
            {"labeled": loss_x / 2, "strong": loss_s / 2},
            pseudo_stats(pseudo, kept),
            (Term("strong", "strong", self.net, x_s, logits_s, pseudo, kept),),
            Weak(self.net, x_w, weak),
        )
