"""UniMatch. Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023,
arXiv 2208.09910.

FixMatch with two strong image views and one feature view (channel dropout on the encoder's maps, UniPerb), all taught
by the weak view: L = (L_x + 0.25 L_s1 + 0.25 L_s2 + 0.5 L_fp) / 2. Each unsupervised term is the cross-entropy of the
pixels with confidence >= tau, divided by the valid pixels of the batch. There is no EMA teacher.

`exact_bn=true` with `cutmix_partner="self"` is the authors' step: labeled and weak images share a pass in which the
perturbed features of both are decoded along, so that the decoder's batch norm sees clean and dropped maps at once.
The default is lean, about a fifth cheaper: the labeled images are not perturbed (nothing is taught on that output),
and the weak logits, which need no gradient, are decoded without one and without moving the running statistics.
`warmup` delays the pseudo-labels in short runs; the paper has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, Literal

import torch
from torch import Tensor

from semiseg_cli.core.methods.base import Batch, Build, Method, Net, Pseudo, StepOutput, Term, Views, Weak, cutmixed
from semiseg_cli.core.ops.batchnorm import still_statistics
from semiseg_cli.core.ops.losses import kept_weights, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.ops.mix import cat_maps, drop_channels
from semiseg_cli.core.settings import require


@dataclass(frozen=True, kw_only=True)
class UniMatchSettings:
    tau: Doc[float, "confidence a pseudo-label needs, in [0, 1]; 0.95 on VOC, 0 on Cityscapes"] = 0.95
    warmup: Doc[float, "fraction of the run before pseudo-labels are used, in [0, 1)"] = 0.0
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"
    exact_bn: Doc[bool, "the authors' joint pass instead of the lean one"] = False

    def __post_init__(self) -> None:
        require(0 <= self.tau <= 1, "method.tau", self.tau, "in [0, 1]")
        require(0 <= self.warmup < 1, "method.warmup", self.warmup, "in [0, 1)")


class UniMatch(Method):
    Settings = UniMatchSettings

    def __init__(self, settings: UniMatchSettings, build: Build) -> None:
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
        second = self._second(batch, views)
        logits_l, own_w, logits_fp = (self._exact if self.settings.exact_bn else self._lean)(x_l, x_w, views)
        weak = Pseudo.of(self.weak_logits(x_w, own_w), unlabeled.valid_BHW)
        x_s1, pseudo_1 = cutmixed(views, unlabeled, weak, "s1", second)
        x_s2, pseudo_2 = cutmixed(views, unlabeled, weak, "s2", second)
        logits_s1, logits_s2 = self.net(torch.cat([x_s1, x_s2])).chunk(2)

        kept_1, kept_2, kept_w = (kept_weights(p, self.settings.tau) for p in (pseudo_1, pseudo_2, weak))
        losses = {
            "labeled": self.build.labeled_loss(logits_l, labeled.mask_BHW) / 2,
            "strong1": pseudo_label_loss(logits_s1, pseudo_1, kept_1) * 0.25 / 2,
            "strong2": pseudo_label_loss(logits_s2, pseudo_2, kept_2) * 0.25 / 2,
            "feature": pseudo_label_loss(logits_fp, weak, kept_w) * 0.5 / 2,
        }
        terms = (
            Term("strong1", self.net, x_s1, logits_s1, pseudo_1, kept_1),
            Term("strong2", self.net, x_s2, logits_s2, pseudo_2, kept_2),
            Term("feature", self.net, x_w, logits_fp, weak, kept_w),
        )
        return StepOutput(losses, pseudo_stats(weak, kept_w), terms, Weak(self.net, x_w, weak))

    def _lean(self, x_l: Tensor, x_w: Tensor, views: Views) -> tuple[Tensor, Callable[[], Tensor], Tensor]:
        """Logits of labeled, weak (when called for, without gradient) and perturbed weak images; one encoder pass."""
        size, count = (x_l.shape[2], x_l.shape[3]), len(x_l)
        maps = self.net.encode(torch.cat([x_l, x_w]))
        maps_l, maps_w = [m[:count] for m in maps], [m[count:] for m in maps]

        def own_w() -> Tensor:
            with torch.no_grad(), still_statistics(self.net.decoder):
                return self.net.decode(maps_w, size).logits_BKHW

        dropped = drop_channels(maps_w, views.channels("fp", maps_w))
        logits_l, logits_fp = self.net.decode(cat_maps(maps_l, dropped), size).logits_BKHW.split([count, len(x_w)])
        return logits_l, own_w, logits_fp

    def _exact(self, x_l: Tensor, x_w: Tensor, views: Views) -> tuple[Tensor, Callable[[], Tensor], Tensor]:
        """The authors' pass: clean and perturbed maps of labeled and weak images are decoded as one batch."""
        maps = self.net.encode(torch.cat([x_l, x_w]))
        halves = [views.channels(key, maps_of) for key, maps_of in (("fp/labeled", maps), ("fp", maps))]
        count = len(x_l)
        factors = [torch.cat([a, b]) for a, b in zip(*halves, strict=True)]
        both = cat_maps(maps, drop_channels(maps, factors))
        logits = self.net.decode(both, (x_l.shape[2], x_l.shape[3])).logits_BKHW
        clean, dropped = logits.chunk(2)
        return clean[:count], lambda: clean[count:], dropped[count:]

    def _second(self, batch: Batch, views: Views) -> Any:
        """The partners' pseudo-labels from a pass in eval mode, as the authors have it."""
        if batch.second is None:
            return None
        self.net.eval()
        with torch.no_grad():
            x = views.weak(batch.second)
            pseudo = Pseudo.of(self.weak_logits(x, lambda: self.net(x)), batch.second.valid_BHW)
        self.net.train()
        return batch.second, pseudo

    def weak_logits(self, x_w: Tensor, own: Callable[[], Tensor]) -> Tensor:
        """What labels a weak view: the student's own logits, but in methods built on this one."""
        return own()

    def deployed(self) -> Net:
        return self.net
