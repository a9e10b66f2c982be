"""UniMatch. Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023,
arXiv 2208.09910.

FixMatch with two strong image views and one feature view (channel dropout on the encoder's maps, UniPerb), all taught
by the weak view: L = (L_x + 0.25 L_s1 + 0.25 L_s2 + 0.5 L_fp) / 2. Each unsupervised term is the cross-entropy of the
pixels with confidence >= tau, divided by the valid pixels of the batch. There is no EMA teacher, but for
`ema_teacher=true`, as which UniMatch V2 (arXiv 2410.10777) compares itself with it.

`exact_bn=true` with `cutmix_partner="self"` is the authors' step: labeled and weak images share a pass in which the
perturbed features of both are decoded along, so that the decoder's batch norm sees clean and dropped maps at once.
The default is lean, about a fifth cheaper: the labeled images are not perturbed (nothing is taught on that output),
and the weak logits, which need no gradient, are decoded without one and without moving the running statistics.

With `cutmix_partner="batch"` a partner is the neighbour in the global batch, as random as any other image of it: the
places of a batch are filled at random.

Departure: the rate of step i is base (1 - i / steps)^0.9; the authors' code sets it after the step, so that its steps 0
and 1 both have the base rate and every later one the rate that is due a step earlier.
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
from semiseg_cli.core.ops.uniperb import joint_pass, lean_pass, partner_labels
from semiseg_cli.core.settings import Probability


@dataclass(frozen=True, kw_only=True)
class UniMatchSettings(PerhapsTaughtSettings):
    tau: Doc[Probability, "confidence a pseudo-label needs; 0.95 on VOC, 0 on Cityscapes"] = 0.95
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"
    exact_bn: Doc[bool, "the authors' joint pass instead of the lean one"] = False


class UniMatch(PerhapsTaught):
    Settings = UniMatchSettings

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        second = settings.cutmix_partner == "self"
        return frozenset({"unlabeled", "mix", "second"} if second else {"unlabeled", "mix"})

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        labeled, unlabeled = batch.labeled, batch.unlabeled
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        second = self.settings.cutmix_partner == "self"
        partner = partner_labels(self.net, views.weak, batch.partner, second, self.teacher)
        taught = None if self.teacher is None else self.teacher(x_w)
        through = joint_pass if self.settings.exact_bn else lean_pass
        first = through(self.net, x_l, x_w, views.channels, taught)
        weak = Pseudo.of(first.logits_w, unlabeled)
        x_s1, pseudo_1 = cutmixed(views, batch, weak, "s1", partner)
        x_s2, pseudo_2 = cutmixed(views, batch, weak, "s2", partner)
        logits_s1, logits_s2 = self.net(torch.cat([x_s1, x_s2])).chunk(2)

        kept_1, kept_2, kept_w = (at_least(p, self.settings.tau) for p in (pseudo_1, pseudo_2, weak))
        losses = {
            "labeled": self.build.labeled_loss(first.logits_l, labeled) / 2,
            "strong1": pseudo_label_loss(logits_s1, pseudo_1, kept_1) * 0.25 / 2,
            "strong2": pseudo_label_loss(logits_s2, pseudo_2, kept_2) * 0.25 / 2,
            "feature": pseudo_label_loss(first.logits_fp, weak, kept_w) * 0.5 / 2,
        }
        terms = (
            Term("strong1", "strong", self.net, x_s1, logits_s1, pseudo_1, kept_1),
            Term("strong2", "strong", self.net, x_s2, logits_s2, pseudo_2, kept_2),
            Term("feature", "feature", self.net, x_w, first.logits_fp, weak, kept_w),
        )
        return StepOutput(losses, pseudo_stats(weak, kept_w), terms, Weak(self.net, x_w, weak))
