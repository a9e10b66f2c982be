"""S4MIM. Li et al., "Masked Image Modeling Boosting Semi-Supervised Semantic Segmentation", arXiv 2411.08756.

Phase I is FixMatch with feature perturbation. In phase II the three images that it taught (labeled, strong, weak under
feature perturbation) are masked alike, and taught in three spaces: a pixel decoder (PiD) reconstructs every class with
a head of its own; its features at masked places are pulled to the prototype of their class at visible ones; the
predictions are to be those of the whole image. PiD learns at a constant rate and is not deployed.

    L = (L_s + L_u + L_mimpi + L_mimfea + L_mimse) / (1 + 2 l_u + 3 l_mp + 3 l_mf + 3 l_ms)                    (eq. 14)

A weight of 0 switches its term off, and leaves the divisor.

What the paper leaves open: exactly round(ratio * patches) patches are masked, with zeros after normalisation, and
padding counts in no mean. Labels and confidences are brought to the features' size by their nearest pixels. The target
of the perturbed stream, the model's own reconstruction of the unmasked image, is a constant, as are all predictions of
phase I. It goes the way of the prediction, so that the two differ by the mask alone: the encoder sees labeled and weak
images as one batch, PiD the perturbed maps as a batch of their own; its pass moves no running statistics. A class
without a prototype yet is not pulled. tau is UniMatch's, and so is what a pixel loss is divided by. The heads are
computed in an exact cheap form, see `classwise.py`.

`exact_bn=true` with `cutmix_partner="self"` is phase I in UniMatch's joint pass, whose views and perturbation the paper
takes over: clean and perturbed maps of labeled and weak images are decoded as one batch. The default is lean: labeled
images are not perturbed, and the weak logits are decoded without gradient.

Departures: with `fp_target="model"` the perturbed stream teaches the encoder, not PiD: nothing would hold the scale of
what is its own target, and in 1,000 steps its loss ran away (RESULTS.md). Masked images leave the running statistics
of encoder and semantic decoder alone (`masked_statistics`), for it is whole images that are evaluated. With
`backward="phased"` each phase is differentiated before the next begins: the same gradients with less memory.

However a batch is divided, the result is the same (batch norm apart), but for the aggregation: its prototypes, which
move at each micro-batch, and its means are those of one micro-batch of all processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.methods.base import (
    Build,
    Group,
    Pseudo,
    SemiBatch,
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
from semiseg_cli.core.methods.s4mim.settings import S4MIMSettings
from semiseg_cli.core.methods.s4mim.streams import Streams, in_order, stream_means
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import at_least, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.ops.maps import cat_maps, drop_channels
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.ops.uniperb import joint_pass, lean_pass, partner_labels
from semiseg_cli.core.settings import Config, require
from semiseg_cli.core.types import at_least_float32


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
    def inputs(cls, settings: Any) -> frozenset[str]:
        second = settings.cutmix_partner == "self"
        return frozenset({"unlabeled", "mix", "second"} if second else {"unlabeled", "mix"})

    @classmethod
    def check(cls, config: Config) -> None:
        patch, ratio, crop = config.method.patch, config.method.ratio, config.train.crop
        require(patch <= crop, "method.patch", patch, f"no larger than train.crop = {crop}")
        count = math.ceil(crop / patch) ** 2
        some = 0 < round(ratio * count) < count
        require(some, "method.ratio", ratio, f"such that some of a crop's {count} patches are masked and some are not")

    def groups(self) -> list[Group]:
        encoder = [p for p in self.net.encoder.parameters() if p.requires_grad]
        decoder = self.net.decoder.parameters()
        pixel = [] if self.pid is None else [Group(list(self.pid.parameters()), head=True, schedule="constant")]
        return [Group(encoder), Group(list(decoder), head=True), *pixel]

    def step(self, batch: SemiBatch, views: Views) -> Iterator[StepOutput]:
        first, streams = self.baseline(batch, views)
        if streams is None:
            yield first
        elif self.settings.backward == "joint":
            yield first.plus(self.masked(views, streams))
        else:
            yield first
            del first  # its graph would lie beside phase II's
            yield self.masked(views, streams)

    def baseline(self, batch: SemiBatch, views: Views) -> tuple[StepOutput, Streams | None]:
        """Phase I, and what it tells phase II, where there is one."""
        settings, labeled, unlabeled = self.settings, batch.labeled, batch.unlabeled
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        second = settings.cutmix_partner == "self"
        partner = partner_labels(self.net, views.weak, batch.partner, second)
        through = joint_pass if settings.exact_bn else lean_pass
        first = through(self.net, x_l, x_w, views.channels)
        p_l, p_fp, weak = first.logits_l, first.logits_fp, Pseudo.of(first.logits_w, unlabeled)
        x_s, mixed = cutmixed(views, batch, weak, "s1", partner)
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
                maps=[m[-len(x_w) :].detach() for m in first.maps] if settings.teaches_itself else [],
            )
        return StepOutput(self.weighted(losses), pseudo_stats(weak, kept_w), terms, Weak(self.net, x_w, weak)), streams

    def masked(self, views: Views, streams: Streams) -> StepOutput:
        """Phase II: the same mask on the three streams, which pass the networks as in phase I."""
        settings, image = self.settings, streams.image_M3HW
        size, count = (image.shape[2], image.shape[3]), len(image) // 3
        target = self.target(streams) if settings.lambda_mp else None
        mask = views.patches("mim", settings.patch, settings.ratio).repeat(3, 1, 1)
        x_l, x_s, x_w = image.masked_fill(mask[:, None], 0).chunk(3)  # x * m
        with frozen_statistics(*([] if settings.masked_statistics else [self.net])):
            maps, maps_s = self.net.encode(torch.cat([x_l, x_w])), self.net.encode(x_s)
            maps_l, maps_w = [m[:count] for m in maps], [m[count:] for m in maps]
            maps_fp = drop_channels(maps_w, views.channels("fp", maps_w))
            both = cat_maps(maps_l, maps_fp), maps_s
            p_m = [self.net.decode(each, size).logits_BKHW for each in both] if settings.lambda_ms else []

        losses, pictures = dict[str, Tensor](), dict[str, Tensor]()
        if p_m:
            losses["semantic"] = settings.lambda_ms * self.semantic(in_order(*p_m), streams)
        if self.pid is not None:
            group = streams.group_MHW.split([2 * count, count])
            fea, r = self.imaged(cat_maps(maps_l, maps_s), group[0])
            with self.pid.untaught() if settings.teaches_itself else nullcontext():
                fea_fp, r_fp = self.imaged(maps_fp, group[1])
            fea = torch.cat([fea, fea_fp])
            if target is not None:
                r = torch.cat([r, r_fp])
                error = (r - target).square().mean(1)  # eq. 5
                losses["pixel"] = settings.lambda_mp * stream_means(error, streams)  # eq. 8
                pictures = streams.pictures(mask, r.detach())
            if settings.lambda_mf:
                losses["aggregation"] = settings.lambda_mf * self.aggregation(fea, mask, streams)
        return StepOutput(self.weighted(losses), pictures=pictures)

    def imaged(self, maps: list[Tensor], group_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """PiD's features (eq. 3) and what it reconstructs (eqs. 6 and 7), which is nothing where nobody asks."""
        assert self.pid is not None
        fea = self.pid(maps)
        asked = self.settings.lambda_mp > 0
        return fea, self.pid.reconstruct(fea, group_BHW, self.settings.mim == "classwise") if asked else fea[:0]

    @torch.no_grad()
    def target(self, streams: Streams) -> Tensor:
        """x^l, x^s and x^fp of eq. 8, normalised (M, 3, H, W)."""
        if self.settings.fp_target == "image":
            return streams.image_M3HW
        assert self.pid is not None
        count = len(streams.image_M3HW) // 3
        with frozen_statistics(self.pid):
            x_fp = self.imaged(streams.maps, streams.group_MHW[2 * count :])[1]
        return torch.cat([streams.image_M3HW[: 2 * count], x_fp])

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

