"""FixMatch for segmentation. Sohn et al., NeurIPS 2020, arXiv 2001.07685; for pixels as in UniMatch, arXiv 2208.09910.

Pseudo-labels come from the student's own weak view; one strong view with CutMix is taught where the confidence
reaches tau. L = (L_x + L_s) / 2, with L_s divided by the valid pixels of the batch, not by the confident ones.

Departures: labeled and strong images pass the network in one batch, and the weak view passes it without gradient in
training mode, its running statistics untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

import torch

from semiseg_cli.core.methods.base import (
    Build,
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
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import at_least, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.settings import Probability


@dataclass(frozen=True, kw_only=True)
class FixMatchSettings(SemiSettings):
    tau: Doc[Probability, "confidence a pseudo-label needs"] = 0.95
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"


class FixMatch(SemiSupervised):
    Settings = FixMatchSettings

    def __init__(self, settings: FixMatchSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        second = settings.cutmix_partner == "self"
        return frozenset({"unlabeled", "mix", "second"} if second else {"unlabeled", "mix"})

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        labeled, unlabeled, others = batch.labeled, batch.unlabeled, batch.partner
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        with torch.no_grad(), frozen_statistics(self.net):
            weak = Pseudo.of(self.net(x_w), unlabeled)
            partner = Pseudo.of(self.net(views.weak(others)), others) if others else None
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
