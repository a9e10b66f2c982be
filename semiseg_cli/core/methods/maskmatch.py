"""MaskMatch. Pan et al., "Semi-supervised Semantic Segmentation Meets Masked Modeling: Fine-grained Locality Learning
Matters in Consistency Regularization", 2023, arXiv 2312.08631.

A mean teacher (alpha 0.999) that labels the weak view at three scales; the student learns these labels on the strong
view at the same scales, and on the weak view with 70 % of its patches hidden (local consistency, LCR):
L = L_x + lambda_1 L_MSWS + lambda_2 L_LCR. Unlabeled terms count pixels with confidence > tau; each image is divided by
its own count of them. The teacher is evaluated.

Departures. A scaled image's logits are brought back by the decoder's last upsampling, not by a second one after it.
Labeled and strong images pass the network as one batch; scaled and masked images pass it apart and leave the running
statistics as they are, which would be mostly theirs, and the teacher is evaluated with them. A hidden patch has the
mean colour. The paper does not say by what the loss of `masked_task = "visible"` is divided: by the confident pixels
that are visible.
The teacher's decay is min((1 + step) / (10 + step), alpha), for short runs. Of CutMix the paper says the name: here it
has probability 0.5 (`train.cutmix`), UniMatch's boxes and another image of the batch. Scaled sides are rounded to
8 n + 1. Output stride 8 is read off table 5, whose 2058.41 GFLOP are four forwards of 514.6. The paper has one rate;
the head's x10 on VOC is UniMatch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from semiseg_cli.core.methods.base import (
    Build,
    Images,
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
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import more_than, pseudo_label_loss, pseudo_stats, reconstruction_loss
from semiseg_cli.core.ops.scales import logits_at, mean_softmax
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.settings import Below1, Config, Count, NotNegative, Positive, Probability, require, unread


@dataclass(frozen=True, kw_only=True)
class MaskMatchSettings(SemiSettings):
    renamed: ClassVar[Mapping[str, str]] = {"mask": "hidden"}

    alpha: Doc[Below1, "decay of the teacher's moving average"] = 0.999
    tau: Doc[Probability, "a pseudo-label counts above this confidence"] = 0.9
    scales: Doc[
        tuple[Positive, ...], "scales of teacher and strong view, 1 among them; 1 alone: no multi-scale"
    ] = (1.0, 0.7, 1.5)
    masked_task: Doc[
        Literal["none", "visible", "everywhere", "reconstruction"],
        "what the masked view learns: nothing, labels of visible pixels, labels of all, or the image itself",
    ] = "everywhere"
    hidden: Doc[Literal["random", "block", "grid"], "which patches are hidden; grid keeps one of four"] = "random"
    patch: Doc[Count, "side of a patch in pixels, p"] = 32
    ratio: Doc[Below1, "probability that a patch is hidden, gamma"] = 0.7
    lambda_1: Doc[NotNegative, "weight of the weak-to-strong loss"] = 1.0
    lambda_2: Doc[NotNegative, "weight of the masked view's loss"] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        scales = 1 in self.scales and len(set(self.scales)) == len(self.scales)
        require(scales, "method.scales", self.scales, "different factors, 1 among them")
        if self.hidden == "grid":
            unread(self, "ratio", "method.hidden is grid")


class MaskMatch(SemiSupervised):
    Settings = MaskMatchSettings
    includes = frozenset({"masked"})

    def __init__(self, settings: MaskMatchSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.teacher = build.teacher(self.net)
        self.painter: nn.Module | None = None  # table 8's auxiliary head, from the classifier's features to RGB
        if settings.masked_task == "reconstruction":
            self.painter = nn.utils.skip_init(nn.Conv2d, self.net.widths["fused"], 3, 1)
            for p in self.painter.parameters():
                nn.init.zeros_(p)  # it starts with the mean colour

    @classmethod
    def check(cls, config: Config) -> None:
        settings, crop, stride = config.method, config.train.crop, config.model.output_stride
        if settings.masked_task != "none":
            require(settings.patch <= crop, "method.patch", settings.patch, f"at most train.crop = {crop}")
        enough = all(fit_side(crop, 1, factor) > stride for factor in settings.scales)
        allowed = f"such that the crop of {crop} pixels keeps more than one feature pixel of {stride} at every scale"
        require(enough, "method.scales", settings.scales, allowed)

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        settings, labeled, unlabeled, others = self.settings, batch.labeled, batch.unlabeled, batch.partner
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        weak = self._pseudo_labels(x_w, unlabeled)
        partner = self._pseudo_labels(views.weak(others), others) if others else None
        x_s, mixed = cutmixed(views, batch, weak, "s1", partner)
        logits_l, logits_s = self.net(torch.cat([x_l, x_s])).split([len(x_l), len(x_s)])
        with frozen_statistics(self.net):
            scaled = [logits_at(self.net, x_s, factor) for factor in settings.scales if factor != 1]

        kept = more_than(mixed, settings.tau)
        loss_x = self.build.labeled_loss(logits_l, labeled)  # eq. 1
        per_scale = [pseudo_label_loss(logits, mixed, kept, "image") for logits in (logits_s, *scaled)]
        loss_ms = torch.stack(per_scale).mean()  # eq. 8
        out = StepOutput(
            {"labeled": loss_x, "strong": settings.lambda_1 * loss_ms},
            pseudo_stats(weak, more_than(weak, settings.tau)),
            (Term("strong", "strong", self.net, x_s, logits_s, mixed, kept),),
            Weak(self.net, x_w, weak),
        )
        return out.plus(self._masked(x_w, weak, views)) if settings.masked_task != "none" else out

    def _masked(self, x_w: Tensor, weak: Pseudo, views: Views) -> StepOutput:
        """Local consistency regularization, or one of the tasks that table 8 compares it with."""
        settings = self.settings
        hidden = views.patches("masked", settings.patch, settings.ratio, settings.hidden, exact=False)
        x_m = x_w.masked_fill(hidden[:, None], 0.0)  # eq. 5
        with frozen_statistics(self.net):
            out = self.net.decode(self.net.encode(x_m), (x_w.shape[2], x_w.shape[3]))
        if self.painter is not None:
            loss = reconstruction_loss(self.painter(out.fused), x_w, weak.valid_BHW, weak.pixels)
            return StepOutput({"masked": settings.lambda_2 * loss})
        kept = more_than(weak, settings.tau) * (~hidden if settings.masked_task == "visible" else 1)
        loss = pseudo_label_loss(out.logits_BKHW, weak, kept, "image")  # eq. 6
        term = Term("masked", "masked", self.net, x_m, out.logits_BKHW, weak, kept)
        return StepOutput({"masked": settings.lambda_2 * loss}, terms=(term,))

    @torch.no_grad()
    def _pseudo_labels(self, x_w: Tensor, images: Images) -> Pseudo:
        """The mean of the teacher's predictions at all scales, eq. 7."""
        logits = [logits_at(self.teacher.net, x_w, factor) for factor in self.settings.scales]
        return Pseudo.of(mean_softmax(logits), images)

    def after_step(self, moment: Moment) -> None:
        self.teacher.update(self.net, moment, self.settings.alpha)

    def deployed(self) -> Net:
        return self.teacher.net
