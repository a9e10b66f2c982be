"""GuidedMix-Net. Tu et al., "GuidedMix-Net: Semi-Supervised Semantic Segmentation by Using Labeled Images as
Reference", AAAI 2022, arXiv 2112.14015.

Every unlabeled image is mixed with the most similar labeled image. What the network predicts on the mixture, less what
it predicts on the labeled image, is the pseudo-mask of the unlabeled one:
L = CE + L_dec + L_cla + omega L_usup (eqs. 9 and 11). The network is pyramid pooling with MITrans blocks over an
encoder of output stride 32 (decoder `mitrans`; `mitrans_local` is it without attention); any other decoder will do.

This is the paper; its released code implements another method. Eqs. 10 and 12 sum squares over classes. L_dec does so
here (`lambda_dec` 1). omega is 30 as in CCT (arXiv 2003.09005), whose squares are a mean over classes, so that L_usup
takes that mean: 30 / K of eq. 10. The paper gives no number; it cites Laine and Aila (arXiv 1610.02242), who scale a
maximum by labeled / all images: set omega to do so.

Where the paper is silent: lambda is drawn per image; masks M are softmax maps (`space`); squares are a mean over
pixels, those that are padded or ignored in either image left out; L_usup trains M_u towards the fixed M_dec, L_dec
trains M_mix with M_l and the other mask fixed, and decouples as L_usup does (eq. 12 prints the hard form); L_cla is the
binary cross-entropy of every class's presence in the label, the mean over classes and images; nearest is never an image
without a known pixel, and in L_dec never another crop of the same one; mixtures leave the batch norms' running
statistics alone, for only whole images are met later; and mixing begins after `warmup`, while CE and L_cla train
("first trained on the labeled samples before mixing"). Features are pooled after the pyramid, which Sec. 4.2 counts
among the encoder (after ASPP on DeepLabV3+).

`pairing="random"` is the paper's choice for Cityscapes, without classifier and L_cla: places in the batch are paired,
whatever they hold. "precomputed" takes the nearest of the whole labeled list instead of the batch's (`semiseg pair`).
Pairs are of one micro-batch, and with "batch" and "precomputed" L_dec, with "batch" also L_usup, are divided by its
pixels: these depend on how a batch is divided.

What eq. 8 leaves of a mixture of probabilities sums to 1 - lambda, and the mask that learns it to 1, so that L_usup
also flattens every prediction. `rescale` divides by 1 - lambda: a mixture predicted as the mixture of both masks then
gives the unlabeled image's own. The paper does not divide, and neither does the default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.methods.base import (
    Build,
    Labeled,
    Pseudo,
    SemiBatch,
    SemiSettings,
    SemiSupervised,
    StepOutput,
    Term,
    Views,
    Weak,
)
from semiseg_cli.core.ops.batchnorm import frozen_statistics
from semiseg_cli.core.ops.losses import pseudo_stats
from semiseg_cli.core.ops.processes import per_micro_batch
from semiseg_cli.core.ops.similarity import nearest_in_batch
from semiseg_cli.core.settings import Below1, Config, NotNegative, Probability, Range, require
from semiseg_cli.core.types import at_least_float32


@dataclass(frozen=True, kw_only=True)
class GuidedMixSettings(SemiSettings):
    pairing: Doc[
        Literal["batch", "precomputed", "random"], "whom an unlabeled image is mixed with: the nearest, or any"
    ] = "batch"
    cap: Doc[
        float, Range(0, 0.5, open="("), "largest share of the labeled image in a mixture; 0.5 on VOC, 0.3 on Cityscapes"
    ] = 0.5
    decoupling: Doc[Literal["soft", "hard"], "take lambda times the labeled image's mask away, or all of it"] = "soft"
    rescale: Doc[bool, "what soft decoupling leaves is divided by 1 - lambda, so that it sums to 1"] = False
    space: Doc[Literal["prob", "logit"], "masks are softmax maps, or logits"] = "prob"
    lambda_dec: Doc[NotNegative, "weight of the loss of labeled mixtures, a sum over classes; 1 as published"] = 1.0
    omega: Doc[NotNegative, "weight of the unlabeled loss, a mean over classes, once it has risen"] = 30.0
    ramp: Doc[Probability, "fraction of the run after the warm-up over which it rises"] = 0.1
    warmup: Doc[Below1, "fraction of the run before images are mixed"] = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        soft = self.decoupling == "soft" or not self.rescale
        require(soft, "method.rescale", self.rescale, "false where decoupling is hard: what it leaves sums to 0")


class GuidedMix(SemiSupervised):
    Settings = GuidedMixSettings
    divisible: ClassVar[Mapping[str, Any]] = {"pairing": "random"}
    untaught = "padding, or ignored in the labeled image of its mixture"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model.decoder": "mitrans", "model.output_stride": 32, "train.rotation": 10.0,
    }  # fmt: skip

    def __init__(self, settings: GuidedMixSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter()
        self.classifier = None
        if settings.pairing != "random":
            self.classifier = nn.Linear(self.net.widths["context"], build.classes)
            nn.init.zeros_(self.classifier.weight)  # as good a start as any for one layer, and no draw
            nn.init.zeros_(self.classifier.bias)

    @classmethod
    def inputs(cls, settings: Any) -> frozenset[str]:
        return frozenset({"unlabeled", "paired"} if settings.pairing == "precomputed" else {"unlabeled"})

    @classmethod
    def check(cls, config: Config) -> None:
        """Where pairs are of neighbours, both are in one micro-batch."""
        micro, apart = config.train.micro_batch, "even, or 0, where method.pairing is random: it divides pairs"
        divided = config.method.pairing == "random" and micro not in (0, config.train.batch)
        require(not (divided and micro % 2), "train.micro_batch", micro, apart)

    @classmethod
    def unread(cls, settings: Any) -> Mapping[str, str]:
        return dict.fromkeys(("cutmix", "colour", "strong_view"), "method.name is guidedmix, which has no strong view")

    def label_step(self, batch: SemiBatch, views: Views) -> StepOutput:
        """The classifier as well."""
        logits_l, pooled_l = self._predict(views.weak(batch.labeled))
        return StepOutput(self._supervised(logits_l, pooled_l, batch.labeled))

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        settings, labeled, unlabeled = self.settings, batch.labeled, batch.unlabeled
        x_l = views.weak(labeled)
        count, x_u = len(x_l), views.weak(unlabeled)
        logits, pooled = self._predict(torch.cat([x_l, x_u]))
        (logits_l, logits_u), (pooled_l, pooled_u) = logits.split([count, len(x_u)]), pooled.split([count, len(x_u)])
        losses = self._supervised(logits_l, pooled_l, labeled)
        m_l, m_u = self._masks(logits_l).detach(), self._masks(logits_u)
        losses["dec"] = settings.lambda_dec * self._labeled_mixtures(labeled, x_l, m_l, pooled_l, views)

        # L_usup: each unlabeled image with a labeled one
        share = settings.cap * views.uniform("guidedmix", 1)[:, :, None, None]  # min(l, 1 - l), l ~ Beta(1, 1), capped
        with torch.no_grad(), frozen_statistics(self.net):
            x_p, m_p, known_p = self._partners(batch, x_l, m_l, pooled_l, pooled_u, views)
            x_mix = share * x_p + (1 - share) * x_u  # eq. 2
            m_mix = self._masks(self.net(x_mix))
            decoupled = self._decoupled(m_mix, m_p, share)
        counted = whole = unlabeled.valid_BHW & known_p
        if settings.pairing != "batch":
            step_mask = labeled.step_mask_MHW if batch.paired is None else batch.paired.step_mask_MHW
            whole = unlabeled.step_valid_MHW & self._known(step_mask)
        omega = batch.clock.value(lambda clock: self._omega(clock.stage_progress) / self.build.classes, m_u)
        losses["unlabeled"] = omega * square_error(m_u, decoupled, counted, whole)  # eq. 10

        pseudo = Pseudo.of(
            decoupled if settings.space == "logit" else decoupled.clamp(min=1e-6).log(),
            replace(unlabeled, valid_BHW=counted, step_valid_MHW=counted),
        )
        kept = counted.to(logits_u.dtype)
        return StepOutput(
            losses,
            pseudo_stats(pseudo, kept),
            (Term("unlabeled", "weak", self.net, x_u, logits_u, pseudo, kept),),
            Weak(self.net, x_u, pseudo),
            pictures={
                "labeled": x_p, "unlabeled": x_u, "mixed": x_mix, "share": share[:, 0, 0, 0],
                "prediction": m_mix.argmax(1), "decoupled": pseudo.label_BHW, "counted": counted,
            },
        )  # fmt: skip

    def _predict(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the means (B, D) of what the pyramid gives."""
        maps = self.net.encode(image_B3HW)
        out = self.net.decode(maps, (image_B3HW.shape[2], image_B3HW.shape[3]))
        return out.logits_BKHW, at_least_float32(out.context).mean((2, 3))

    def _supervised(self, logits_l: Tensor, pooled_l: Tensor, labeled: Labeled) -> dict[str, Tensor]:
        """Cross-entropy, and L_cla (eq. 11): which classes an image shows, from its pooled features."""
        losses = {"labeled": self.build.labeled_loss(logits_l, labeled)}
        if self.classifier is not None:
            losses["classifier"] = presence_loss(self.classifier(pooled_l), labeled.mask_BHW, labeled.step_mask_MHW)
        return losses

    def _labeled_mixtures(self, labeled: Labeled, x_l: Tensor, m_l: Tensor, pooled_l: Tensor, views: Views) -> Tensor:
        """L_dec, eq. 12: each labeled image with the most similar other one of the batch."""
        known_l, other = self._known(labeled.mask_BHW), self._others(pooled_l, labeled, views)
        share = self.settings.cap * views.uniform("guidedmix/labeled", 1)[:, :, None, None]
        with frozen_statistics(self.net):
            m_mix = self._masks(self.net(share * x_l + (1 - share) * x_l[other]))  # eq. 2
        counted = known_l & known_l[other]
        if self.settings.pairing == "random":
            step_known_l = self._known(labeled.step_mask_MHW)
            whole = step_known_l & step_known_l[views.step_neighbours()]
        else:
            counted = whole = counted & (labeled.index_B != labeled.index_B[other])[:, None, None]
        error = square_error(self._decoupled(m_mix, m_l, share), m_l[other], counted, whole)
        return error if len(x_l) > 1 else 0 * error  # alone in its batch it has no other

    def _others(self, pooled_l: Tensor, labeled: Labeled, views: Views) -> Tensor:
        """Places of the other labeled images: where no other will do, of any."""
        if self.settings.pairing == "random":
            return views.neighbours()
        same = labeled.index_B[:, None] == labeled.index_B
        return nearest_in_batch(pooled_l, pooled_l, same | self._unknown(labeled))

    def _partners(
        self, batch: SemiBatch, x_l: Tensor, m_l: Tensor, pooled_l: Tensor, pooled_u: Tensor, views: Views
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """The labeled image that each unlabeled one is mixed with, its mask, and where its label is known."""
        if batch.paired is not None:
            x_p = views.weak(batch.paired)
            return x_p, self._masks(self.net(x_p)), self._known(batch.paired.mask_BHW)
        known_l = self._known(batch.labeled.mask_BHW)
        if self.settings.pairing == "random":
            return x_l, m_l, known_l  # which labeled image shares an unlabeled one's slot is as random as any draw
        order = nearest_in_batch(pooled_u, pooled_l, self._unknown(batch.labeled).expand(len(pooled_u), -1))  # eq. 3
        return x_l[order], m_l[order], known_l[order]

    def _known(self, mask_BHW: Tensor) -> Tensor:
        return mask_BHW < self.build.classes

    def _unknown(self, labeled: Labeled) -> Tensor:
        """Images (B,) of which no pixel is known."""
        return ~self._known(labeled.mask_BHW).flatten(1).any(1)

    def _masks(self, logits_BKHW: Tensor) -> Tensor:
        logits = at_least_float32(logits_BKHW)
        return logits if self.settings.space == "logit" else logits.softmax(1)

    def _decoupled(self, m_mix: Tensor, m_l: Tensor, share: Tensor) -> Tensor:
        """The mixture's mask less the labeled image's (hard, eq. 7) or lambda of it (soft, eq. 8)."""
        if self.settings.decoupling == "hard":
            return m_mix - m_l
        rest = m_mix - share * m_l
        return rest / (1 - share) if self.settings.rescale else rest

    def _omega(self, progress: float) -> float:
        """Of eq. 9: exp(-5 (1 - t)^2) of its full value, t from 0 to 1 over the ramp after the warm-up."""
        t = min(progress / self.settings.ramp, 1.0) if self.settings.ramp else 1.0
        return float(self.settings.omega * math.exp(-5 * (1 - t) ** 2))


def square_error(a_BKHW: Tensor, b_BKHW: Tensor, counted_BHW: Tensor, step_counted_MHW: Tensor) -> Tensor:
    """Squared difference, the sum over classes and the mean over the counted pixels; 0 where none counts.

    step_counted: of all micro-batches of the step, where it is known before they are run.
    """
    square_BHW = (a_BKHW - b_BKHW).square().sum(1)
    return square_BHW.where(counted_BHW, 0.0).sum() / per_micro_batch(step_counted_MHW, len(counted_BHW))


def presence_loss(logits_BK: Tensor, mask_BHW: Tensor, step_mask_MHW: Tensor) -> Tensor:
    """Binary cross-entropy of every class's presence in the mask, the mean over classes and the global batch's images.

    An image without a known pixel says nothing of its classes and is left out; 0 if all are such.
    """
    classes = logits_BK.shape[1]
    known_BHW = mask_BHW < classes
    present = torch.zeros(len(mask_BHW), classes + 1, dtype=logits_BK.dtype, device=logits_BK.device)
    present = present.scatter(1, mask_BHW.where(known_BHW, classes).flatten(1), 1.0)[:, :classes]
    loss_B = F.binary_cross_entropy_with_logits(
        at_least_float32(logits_BK), at_least_float32(present), reduction="none"
    ).mean(1)
    told_M = (step_mask_MHW < classes).flatten(1).any(1)
    return loss_B.where(known_BHW.flatten(1).any(1), 0.0).sum() / per_micro_batch(told_M, len(mask_BHW))
