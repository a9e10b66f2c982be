"""UniMatch V2. Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", TPAMI 2025,
arXiv 2410.10777.

An EMA teacher labels the weak view. The student learns these labels on two strong views of it, each with a CutMix of
its own, whose features are dropped complementarily: of every image a random half of the channels is left to one view,
the other half to the other, kept ones doubled, the same channels at every level; half of the images keep all.
L = (L_x + L_u) / 2, L_u the mean of both views' cross-entropies of the pixels with confidence >= tau, each divided by
the valid pixels of the batch. The teacher is evaluated.

The authors' encoder is DINOv2 with DPT, their optimiser AdamW: presets voc-dinov2-s and the like. Their baselines are
`fixmatch` and `unimatch` with `method.ema_teacher=true`, and `supervised`; `dropout` and `ema_teacher` here are
ablations of theirs. Where the widths of levels differ (pyramids), channels are drawn for every width apart.

What is of the batch here the authors take from each device's part of it. Their CutMix partner is the image as far
from the part's end as this one from its beginning, as random as the neighbour in the global batch that it is here: the
places of a batch are filled at random. Half of each part keeps all channels, here half of the global batch.

Departures: "independent" dropout is UniMatch's, apart for every level and of all images; what the paper's figure 4 (c)
drops is not said. The rate of step i is base (1 - i / steps)^0.9; theirs is due a step earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Literal

import torch
from torch import Tensor

from semiseg_cli.core.methods.base import (
    Images,
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
from semiseg_cli.core.ops.maps import drop_channels
from semiseg_cli.core.ops.teacher import labels_by
from semiseg_cli.core.settings import NotNegative, Probability


@dataclass(frozen=True, kw_only=True)
class UniMatchV2Settings(PerhapsTaughtSettings):
    tau: Doc[Probability, "confidence a pseudo-label needs"] = 0.95
    lambda_u: Doc[NotNegative, "weight of the unlabeled loss; the sum is divided by 1 + lambda_u"] = 1.0
    dropout: Doc[
        Literal["complementary", "independent", "none"], "channels dropped of the strong views' features"
    ] = "complementary"
    ema_teacher: Doc[bool, "pseudo-labels from a moving average of the student, which is evaluated"] = True


class UniMatchV2(PerhapsTaught):
    Settings = UniMatchV2Settings

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        settings, labeled, unlabeled, others = self.settings, batch.labeled, batch.unlabeled, batch.partner
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        weak = self._pseudo_labels(x_w, unlabeled)
        partner = self._pseudo_labels(views.weak(others), others) if others else None
        x_s1, pseudo_1 = cutmixed(views, batch, weak, "s1", partner)
        x_s2, pseudo_2 = cutmixed(views, batch, weak, "s2", partner)
        logits_l = self.net(x_l)
        maps = self.net.encode(torch.cat([x_s1, x_s2]))
        size = (x_w.shape[2], x_w.shape[3])
        logits_s1, logits_s2 = self.net.decode(self._dropped(maps, views), size).logits_BKHW.chunk(2)

        kept_1, kept_2 = at_least(pseudo_1, settings.tau), at_least(pseudo_2, settings.tau)
        share = 1 / (1 + settings.lambda_u)
        losses = {
            "labeled": share * self.build.labeled_loss(logits_l, labeled),
            "strong1": share * settings.lambda_u * pseudo_label_loss(logits_s1, pseudo_1, kept_1) / 2,
            "strong2": share * settings.lambda_u * pseudo_label_loss(logits_s2, pseudo_2, kept_2) / 2,
        }
        terms = (
            Term("strong1", "strong", self.net, x_s1, logits_s1, pseudo_1, kept_1),
            Term("strong2", "strong", self.net, x_s2, logits_s2, pseudo_2, kept_2),
        )
        return StepOutput(losses, pseudo_stats(weak, at_least(weak, settings.tau)), terms, Weak(self.net, x_w, weak))

    def _pseudo_labels(self, x_B3HW: Tensor, images: Images) -> Pseudo:
        return Pseudo.of(labels_by(self.teacher, self.net, x_B3HW), images)

    def _dropped(self, maps: list[Tensor], views: Views) -> list[Tensor]:
        """The maps of both strong views, one view after the other, with their channels dropped."""
        if self.settings.dropout == "none":
            return maps
        if self.settings.dropout == "complementary":
            halves = views.complementary("s", maps)
        else:
            halves = views.channels("s1", maps), views.channels("s2", maps)
        return drop_channels(maps, [torch.cat(pair) for pair in zip(*halves, strict=True)])
