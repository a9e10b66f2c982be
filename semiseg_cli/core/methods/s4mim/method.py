"""S4MIM. Li et al., "Masked Image Modeling Boosting Semi-Supervised Semantic Segmentation", arXiv 2411.08756.

Phase I is FixMatch with feature perturbation. In phase II the three images that it taught (labeled, strong, weak under
feature perturbation) are masked alike, and taught in three spaces: a pixel decoder (PiD) reconstructs every class with
a head of its own; its features at masked places are pulled to the prototype of their class at visible ones; the
predictions are to be those of the whole image. PiD learns at a constant rate and is not deployed.

    L = (L_s + L_u + L_mimpi + L_mimfea + L_mimse) / (1 + 2 l_u + 3 l_mp + 3 l_mf + 3 l_ms)                    (eq. 14)

A weight of 0 switches its term off, and leaves the divisor.

What the paper leaves open: the masked images pass the encoder as one batch. Exactly round(ratio * patches) patches are
masked, with zeros after normalisation, and padding counts in no mean. Labels and confidences are brought to the
features' size by their nearest pixels. The target of the perturbed stream, the model's own reconstruction of the
unmasked image, is a constant, as are all predictions of phase I; it passes PiD in training mode without moving its
running statistics. A class without a prototype yet is not pulled. tau is UniMatch's, and so is what a pixel loss is
divided by. The heads are computed in an exact cheap form, see `classwise.py`.

Departures: labeled images are not perturbed in phase I and the weak logits take no gradient, as in our lean UniMatch;
CutMix takes another image of the batch, never a second draw of the same one.
Masked images leave the running statistics of encoder and semantic decoder alone (`masked_statistics`), for it is whole
images that are evaluated. With several micro-batches a step, prototypes move at each.
With `backward="phased"` each phase is differentiated before the next begins: the same gradients with less memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.methods.base import (
    Build,
    Group,
    Images,
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
from semiseg_cli.core.methods.s4mim.classwise import one_hot
from semiseg_cli.core.methods.s4mim.pixel_decoder import PixelDecoder
from semiseg_cli.core.methods.s4mim.prototypes import aggregation_loss, class_means
from semiseg_cli.core.methods.s4mim.streams import Streams, stream_means
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import at_least, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.ops.maps import cat_maps, drop_channels
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.settings import Below1, Config, Count, NotNegative, Positive, Probability, Range, require
from semiseg_cli.core.types import at_least_float32


@dataclass(frozen=True, kw_only=True)
class S4MIMSettings(SemiSettings):
    tau: Doc[Probability, "confidence a pseudo-label of phase I needs; 0.95 on VOC, 0 on Cityscapes"] = 0.95
    lambda_u: Doc[NotNegative, "weight of each unlabeled loss of phase I"] = 1 / 2
    lambda_mp: Doc[NotNegative, "weight of the masked reconstruction; 0: none"] = 1 / 3
    lambda_mf: Doc[NotNegative, "weight of the aggregation of features by class; 0: none"] = 0.05
    lambda_ms: Doc[NotNegative, "weight of the masked prediction; 0: none"] = 0.1 / 3
    mim: Doc[Literal["classwise", "basic"], "each head reconstructs its class, or all heads everything"] = "classwise"
    semantic: Doc[Literal["ce", "mse"], "masked predictions learn the classes, or the probabilities"] = "ce"
    dictionary: Doc[bool, "prototypes are moving averages; false: of this batch alone"] = True
    confidence: Doc[bool, "prototypes and aggregation weigh pixels by confidence"] = True
    alpha: Doc[Below1, "decay of the prototypes' moving average"] = 0.99
    temperature: Doc[Positive, "what the cosine distance is divided by"] = 10.0
    patch: Doc[Count, "side of a masked patch in pixels"] = 6
    ratio: Doc[float, Range(0, 1, open="()"), "share of the patches that are masked"] = 0.4
    masked_statistics: Doc[bool, "masked images move the running statistics of the batch norms too"] = False
    fp_target: Doc[Literal["model", "image"], "what the perturbed view is to be reconstructed as"] = "model"
    backward: Doc[Literal["phased", "joint"], "a backward pass for each phase (less memory) or one"] = "phased"

    @property
    def masks(self) -> bool:
        """Whether there is a phase II."""
        return self.lambda_mp > 0 or self.lambda_mf > 0 or self.lambda_ms > 0

    @property
    def divisor(self) -> float:
        return 1 + 2 * self.lambda_u + 3 * (self.lambda_mp + self.lambda_mf + self.lambda_ms)


class S4MIM(SemiSupervised):
    Settings = S4MIMSettings
    divisible: ClassVar[Mapping[str, Any]] = {"lambda_mf": 0.0}
    prototypes_KD: Tensor

    def __init__(self, settings: S4MIMSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()  # E and SeD
        self.pid: PixelDecoder | None = None
        if settings.lambda_mp or settings.lambda_mf:
            body = build.decoder()
            self.pid = PixelDecoder(body, build.classes, build.seed)
            self.register_buffer("prototypes_KD", torch.zeros(build.classes, body.widths["fused"]))

    @classmethod
    def check(cls, config: Config) -> None:
        patch, ratio, crop = config.method.patch, config.method.ratio, config.train.crop
        require(patch <= crop, "method.patch", patch, f"no larger than train.crop = {crop}")
        count = math.ceil(crop / patch) ** 2
        some = 0 < round(ratio * count) < count
        require(some, "method.ratio", ratio, f"such that some of a crop's {count} patches are masked and some are not")

    def groups(self) -> list[Group]:
        encoder, decoder = self.net.encoder.parameters(), self.net.decoder.parameters()
        pixel = [] if self.pid is None else [Group(list(self.pid.parameters()), head=True, schedule="constant")]
        return [Group(list(encoder)), Group(list(decoder), head=True), *pixel]

    def step(self, batch: SemiBatch, views: Views) -> Iterator[StepOutput]:
        first, streams = self.baseline(batch, views)
        if streams is None:
            yield first
        elif self.settings.backward == "joint":
            yield first.plus(self.masked(views, streams))
        else:
            yield first
            yield self.masked(views, streams)

    def baseline(self, batch: SemiBatch, views: Views) -> tuple[StepOutput, Streams | None]:
        """Phase I, and what it tells phase II, where there is one."""
        settings, labeled, unlabeled = self.settings, batch.labeled, batch.unlabeled
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        size, count = (x_l.shape[2], x_l.shape[3]), len(x_l)
        maps = self.net.encode(torch.cat([x_l, x_w]))
        maps_l, maps_w = [m[:count] for m in maps], [m[count:] for m in maps]
        with torch.no_grad(), frozen_statistics(self.net.decoder):
            weak = Pseudo.of(self.net.decode(maps_w, size).logits_BKHW, unlabeled)
        maps_fp = drop_channels(maps_w, views.channels("fp", maps_w))
        p_l, p_fp = self.net.decode(cat_maps(maps_l, maps_fp), size).logits_BKHW.split([count, len(x_w)])
        x_s, mixed = cutmixed(views, batch, weak, "s1", self._partner(batch.partner, views))
        p_s = self.net(x_s)

        kept_s, kept_w = at_least(mixed, settings.tau), at_least(weak, settings.tau)
        losses = {
            "labeled": self.build.labeled_loss(p_l, labeled),  # eq. 1
            "strong": settings.lambda_u * pseudo_label_loss(p_s, mixed, kept_s),  # eq. 2
            "feature": settings.lambda_u * pseudo_label_loss(p_fp, weak, kept_w),
        }
        terms = (
            Term("strong", "strong", self.net, x_s, p_s, mixed, kept_s),
            Term("feature", "feature", self.net, x_w, p_fp, weak, kept_w),
        )
        streams = None
        if settings.masks:
            own = Pseudo.of(p_l, labeled), Pseudo.of(p_s, mixed), Pseudo.of(p_fp, unlabeled)
            known_l = labeled.valid_BHW & (labeled.mask_BHW < self.build.classes)
            streams = Streams(
                index_M=torch.cat([labeled.index_B, unlabeled.index_B, unlabeled.index_B]),
                image_M3HW=torch.cat([x_l, x_s, x_w]),
                group_MHW=torch.cat([own[0].label_BHW, mixed.label_BHW, weak.label_BHW]),
                label_MHW=torch.cat([p.label_BHW for p in own]),
                conf_MHW=torch.cat([p.conf_BHW for p in own]),
                valid_MHW=torch.cat([p.valid_BHW for p in own]),
                known_MHW=torch.cat([known_l, mixed.valid_BHW, weak.valid_BHW]),
                prob_MKHW=torch.cat([p.logits_BKHW.softmax(1) for p in own]) if settings.semantic == "mse" else None,
                pixels_3=torch.stack([p.pixels for p in own]),
                maps=[m.detach() for m in maps_fp],
            )
        return StepOutput(self.weighted(losses), pseudo_stats(weak, kept_w), terms, Weak(self.net, x_w, weak)), streams

    @torch.no_grad()
    def _partner(self, others: Images | None, views: Views) -> Pseudo | None:
        """The pseudo-labels of partners that are not of the micro-batch."""
        if others is None:
            return None
        with frozen_statistics(self.net):
            return Pseudo.of(self.net(views.weak(others)), others)

    def masked(self, views: Views, streams: Streams) -> StepOutput:
        """Phase II: the same mask on the three streams."""
        settings, image = self.settings, streams.image_M3HW
        size, count = (image.shape[2], image.shape[3]), len(image) // 3
        mask = views.patches("mim", settings.patch, settings.ratio).repeat(3, 1, 1)
        with frozen_statistics(*([] if settings.masked_statistics else [self.net])):
            maps = self.net.encode(image.masked_fill(mask[:, None], 0))  # E(x * m)
            maps_fp = [m[2 * count :] for m in maps]
            maps_fp = drop_channels(maps_fp, views.channels("fp", maps_fp))
            maps = cat_maps([m[: 2 * count] for m in maps], maps_fp)
            p_m = self.net.decode(maps, size).logits_BKHW if settings.lambda_ms else None

        losses, pictures = dict[str, Tensor](), dict[str, Tensor]()
        if p_m is not None:
            losses["semantic"] = settings.lambda_ms * self.semantic(p_m, streams)
        if self.pid is not None:
            fea = self.pid.features(maps)
            if settings.lambda_mp:
                r = self.pid.reconstruct(fea, streams.group_MHW, settings.mim == "classwise")
                error = (r - self.target(streams)).square().mean(1)  # eq. 5
                losses["pixel"] = settings.lambda_mp * stream_means(error, streams)  # eq. 8
                pictures = streams.pictures(mask, r.detach())
            if settings.lambda_mf:
                losses["aggregation"] = settings.lambda_mf * self.aggregation(fea, mask, streams)
        return StepOutput(self.weighted(losses), pictures=pictures)

    @torch.no_grad()
    def target(self, streams: Streams) -> Tensor:
        """x^l, x^s and x^fp of eq. 8, normalised (M, 3, H, W)."""
        if self.settings.fp_target == "image":
            return streams.image_M3HW
        assert self.pid is not None
        count = len(streams.image_M3HW) // 3 * 2
        with frozen_statistics(self.pid):
            fea = self.pid.features(streams.maps)
            x_fp = self.pid.reconstruct(fea, streams.group_MHW[count:], self.settings.mim == "classwise")
        return torch.cat([streams.image_M3HW[:count], x_fp])

    def aggregation(self, fea: Tensor, mask_MHW: Tensor, streams: Streams) -> Tensor:
        """Section III-C without lambda. Moves the dictionary, whose vectors are zero until their class was seen."""
        settings, classes, labeled = self.settings, self.build.classes, len(fea) // 3
        group, conf, known, hidden = (
            sample(x, (fea.shape[2], fea.shape[3]))
            for x in (streams.group_MHW, streams.conf_MHW, streams.known_MHW, mask_MHW)
        )
        weight = (conf if settings.confidence else torch.ones_like(conf)) * known
        visible = one_hot(group[:labeled], classes, (weight * ~hidden)[:labeled])
        prototypes, seen_K = class_means(fea[:labeled], visible)  # eq. 9
        if settings.dictionary:
            moved = settings.alpha * self.prototypes_KD + (1 - settings.alpha) * prototypes
            prototypes = self.prototypes_KD.copy_(torch.where(seen_K[:, None], moved, self.prototypes_KD))
        anchors = one_hot(group, classes, weight * hidden)
        return aggregation_loss(fea, anchors, prototypes, settings.temperature)  # eqs. 10 to 12

    def semantic(self, logits_MKHW: Tensor, streams: Streams) -> Tensor:
        """Eq. 13 without lambda, or its squared form of table VII."""
        if streams.prob_MKHW is not None:
            error = (at_least_float32(logits_MKHW).softmax(1) - streams.prob_MKHW).square().mean(1)
        else:
            error = F.cross_entropy(at_least_float32(logits_MKHW), streams.label_MHW, reduction="none")
        return stream_means(error, streams)

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 14."""
        return {name: loss / self.settings.divisor for name, loss in losses.items()}
