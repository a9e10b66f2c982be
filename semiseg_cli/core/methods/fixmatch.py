"""FixMatch for segmentation. Sohn et al., NeurIPS 2020, arXiv 2001.07685; for pixels as in UniMatch, arXiv 2208.09910.

Pseudo-labels come from the student's own weak view; one strong view with CutMix is taught where the confidence
reaches tau. L = (L_x + L_s) / 2, with L_s divided by the valid pixels of the batch, not by the confident ones.

Departures: labeled and strong images pass the network in one batch, and the weak view passes it without gradient in
training mode, its running statistics untouched. `warmup` delays the pseudo-labels in short runs; the paper has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

import torch

from semiseg_cli.core.methods.base import Batch, Build, Method, Net, Pseudo, StepOutput, Term, Views, Weak, cutmixed
from semiseg_cli.core.ops.batchnorm import still_statistics
from semiseg_cli.core.ops.losses import kept_weights, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.settings import require


@dataclass(frozen=True, kw_only=True)
class FixMatchSettings:
    tau: Doc[float, "confidence a pseudo-label needs, in [0, 1]"] = 0.95
    warmup: Doc[float, "fraction of the run before pseudo-labels are used, in [0, 1)"] = 0.0
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"

    def __post_init__(self) -> None:
        require(0 <= self.tau <= 1, "method.tau", self.tau, "in [0, 1]")
        require(0 <= self.warmup < 1, "method.warmup", self.warmup, "in [0, 1)")


class FixMatch(Method):
    Settings = FixMatchSettings

    def __init__(self, settings: FixMatchSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        return frozenset({"unlabeled", "second"} if settings.cutmix_partner == "self" else {"unlabeled"})

    def step(self, batch: Batch, views: Views, phase: int = 0, carry: Any = None) -> StepOutput:
        labeled, unlabeled = batch.labeled, batch.unlabeled
        assert labeled.mask_BHW is not None
        assert unlabeled is not None
        x_l = views.weak(labeled)
        if batch.clock.progress < self.settings.warmup:
            return StepOutput({"labeled": self.build.labeled_loss(self.net(x_l), labeled.mask_BHW)})

        x_w = views.weak(unlabeled)
        with torch.no_grad(), still_statistics(self.net):
            weak = Pseudo.of(self.net(x_w), unlabeled.valid_BHW)
            second = None
            if batch.second is not None:
                second = (batch.second, Pseudo.of(self.net(views.weak(batch.second)), batch.second.valid_BHW))
        x_s, pseudo = cutmixed(views, unlabeled, weak, "s1", second)
        logits_l, logits_s = self.net(torch.cat([x_l, x_s])).split([len(x_l), len(x_s)])

        kept = kept_weights(pseudo, self.settings.tau)  # [max p >= tau], eq. 4
        loss_x = self.build.labeled_loss(logits_l, labeled.mask_BHW)
        loss_s = pseudo_label_loss(logits_s, pseudo, kept)
        return StepOutput(
            {"labeled": loss_x / 2, "strong": loss_s / 2},
            pseudo_stats(pseudo, kept),
            (Term("strong", self.net, x_s, logits_s, pseudo, kept),),
            Weak(self.net, x_w, weak),
        )

    def deployed(self) -> Net:
        return self.net
