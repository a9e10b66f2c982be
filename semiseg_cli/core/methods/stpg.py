"""STPG. Hong et al., "Semi-Supervised Semantic Segmentation with Professional and General Training", 2024,
arXiv 2409.12680.

Two students with the same first encoder and different heads, each followed by an EMA teacher. Professional module:
Pro-Student learns those pseudo-labels of Gen-Teacher that the two agree on, or whose class is the more disputed one.
General module: Gen-Student learns all of Pro-Teacher's. Pseudo-labels count by confidence; there is no threshold.
Dual contrastive learning pulls features of both students to a fixed anchor of their class, all anchors being equally
far apart, and to a memory of good features of their class. Gen-Student is evaluated.
L = L_s + lambda_u (L_gen + L_pro) + lambda_ctr (L_ac + L_sim).

Where the paper is silent or printed otherwise: the decay of the teachers is min((1 + step) / (10 + step), alpha); the
unlabeled losses are divided by the valid pixels of the batch; CutMix pastes the three rectangles of CPS, whose overlaps
show the image again, and both students see the same strong view; the projection heads are 1x1 convolutions with dropout
0.1, so only the pixels that take part pass them, and Gen-Teacher's follows Gen-Student's; labels are read at the places
of the feature map's pixels; `temperature` is the paper's tau; eq. 15 counts its positive once; a feature enters the
memory if its class is also predicted right; features have unit length; classes are matched with anchors once all were
seen in the labels, or after the first epoch those that were, and then for good. The printed rate 1 - (i / n)^0.9 is
read as (1 - i / n)^0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from semiseg_cli.core.methods.base import (
    Build,
    Clock,
    Images,
    Net,
    Out,
    Pseudo,
    SemiBatch,
    SemiSettings,
    SemiSupervised,
    StepOutput,
    Term,
    Views,
    Weak,
)
from semiseg_cli.core.ops.dual_contrast import DualContrast
from semiseg_cli.core.ops.losses import by_confidence, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.ops.mismatch import SETS, mismatch_scores, pixel_sets
from semiseg_cli.core.settings import Below1, Config, Count, Natural, NotNegative, Positive, Probability, require

IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class STPGSettings(SemiSettings):
    modules: Doc[Literal["dual", "single"], "both modules, or Gen-Student with its own teacher alone"] = "dual"
    pixel_selection: Doc[str, "pseudo-labels for Pro-Student: consistent, high, low, joined by +; or none"] = (
        "consistent+high"
    )
    alpha: Doc[Below1, "decay of the teachers' moving averages"] = 0.99
    lambda_u: Doc[NotNegative, "weight of the unlabeled losses"] = 1.0
    lambda_ctr: Doc[NotNegative, "weight of the contrastive losses; 0: none"] = 0.1
    memory_size: Doc[Natural, "features remembered of every class, N; 0: no contrastive learning"] = 256
    memory_topk: Doc[Count, "at most so many new ones of a class and batch, those nearest to its anchor"] = 32
    phi: Doc[Probability, "confidence of Gen-Teacher that a remembered pixel needs more than"] = 0.95
    pixels_per_class: Doc[Count, "at most so many pixels of a class, batch and student are contrasted"] = 256
    temperature: Doc[Positive, "tau of the anchors and of the anchor loss"] = 0.5
    embedding: Doc[Count, "dimensions that features are projected to"] = 256
    projection_input: Doc[Literal["aspp", "fused"], "features projected: the context's, or the classifier's"] = "aspp"
    colour: Doc[bool, "also colour augmentation in the strong view"] = False
    deployed: Doc[
        Literal["gen_student", "pro_student", "gen_teacher", "pro_teacher"], "the network evaluated and exported"
    ] = "gen_student"

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.pixel_selection.split("+")
        known = self.pixel_selection == "none" or (set(parts) <= set(SETS) and len(set(parts)) == len(parts))
        require(known, "method.pixel_selection", self.pixel_selection, f"none, or any of {', '.join(SETS)} joined by +")
        there = self.modules == "dual" or self.deployed.startswith("gen")
        require(there, "method.deployed", self.deployed, "gen_student or gen_teacher where method.modules is single")


class STPG(SemiSupervised):
    Settings = STPGSettings
    divisible: ClassVar[Mapping[str, Any]] = {"lambda_ctr": 0.0, "pixel_selection": "consistent+low+high"}

    @classmethod
    def check(cls, config: Config) -> None:
        asked = config.method.colour and config.train.colour == 0
        require(not asked, "method.colour", True, "false where train.colour = 0 takes all colour augmentation away")

    def __init__(self, settings: STPGSettings, build: Build) -> None:
        super().__init__(settings, build)
        dual = settings.modules == "dual"
        self.gen = build.segmenter(head_seed=0)
        self.gen_teacher = build.teacher(self.gen)
        self.pro = build.segmenter(head_seed=1) if dual else None
        self.pro_teacher = build.teacher(self.pro) if self.pro else None
        contrasts = settings.memory_size > 0 and settings.lambda_ctr > 0
        self.contrast = self._dual_contrast(students=1 + dual) if contrasts else None

    def _dual_contrast(self, students: int) -> DualContrast:
        settings, build = self.settings, self.build
        return DualContrast(
            build.classes,
            self.gen.widths["context" if settings.projection_input == "aspp" else "fused"],
            settings.embedding,
            students=students,
            seed=build.seed,
            temperature=settings.temperature,
            memory_size=settings.memory_size,
            memory_topk=settings.memory_topk,
            pixels_per_class=settings.pixels_per_class,
            phi=settings.phi,
        )

    def label_step(self, batch: SemiBatch, views: Views) -> StepOutput:
        """Both students."""
        x_l, students = views.weak(batch.labeled), [net for net in (self.gen, self.pro) if net is not None]
        losses = [self.build.labeled_loss(net(x_l), batch.labeled) for net in students]
        return StepOutput({"labeled": torch.stack(losses).sum()})

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        settings, labeled, unlabeled, others = self.settings, batch.labeled, batch.unlabeled, batch.partner
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)
        mix = views.cutmix(unlabeled, "s1", others, rectangles=3)
        pasted = self._augmented(views.partner, others) if others else None
        x_s = mix(self._augmented(views, unlabeled), pasted)  # A^s, the same for both students

        with torch.no_grad():
            seen = run(self.gen_teacher.net, torch.cat([x_l, x_w]) if self.contrast else x_w)
            weak_gen = Pseudo.of(seen.logits_BKHW[-len(x_w) :], unlabeled)  # eqs. 3 and 4
            weak_pro = Pseudo.of(self.pro_teacher(x_w), unlabeled) if self.pro_teacher else weak_gen  # 9, 10
            partner_gen, partner_pro = self._partners(others, views)
        y_gen, y_pro = weak_gen.mix(mix, partner_gen), weak_pro.mix(mix, partner_pro)

        gen = run(self.gen, torch.cat([x_l, x_s]))
        gen_l, gen_s = gen.logits_BKHW.split([len(x_l), len(x_s)])  # eq. 8
        loss_s = self.build.labeled_loss(gen_l, labeled)
        by_conf = by_confidence(y_pro)  # omega
        losses = {"labeled": loss_s, "general": settings.lambda_u * pseudo_label_loss(gen_s, y_pro, by_conf)}  # eq. 11
        terms = [Term("general", "strong", self.gen, x_s, gen_s, y_pro, by_conf)]
        stats = pseudo_stats(y_pro, by_conf)
        taught = [(gen, y_pro.label_BHW, y_pro.valid_BHW)]

        if self.pro is not None:
            pro = run(self.pro, torch.cat([x_l, x_s]))
            pro_l, pro_s = pro.logits_BKHW.split([len(x_l), len(x_s)])  # eq. 2
            selected = self._select(pro_s, y_gen)
            kept = by_confidence(y_gen) * selected
            losses["labeled"] = loss_s + self.build.labeled_loss(pro_l, labeled)  # eq. 1
            losses["professional"] = settings.lambda_u * pseudo_label_loss(pro_s, y_gen, kept)  # eq. 7
            terms.append(Term("professional", "strong", self.pro, x_s, pro_s, y_gen, kept))
            stats = pseudo_stats(y_gen, kept) | class_pixels(y_gen, selected)
            taught.append((pro, y_gen.label_BHW, y_gen.valid_BHW & selected))

        if self.contrast is not None:
            labels = [torch.cat([labeled.mask_BHW, label.where(used, IGNORE)]) for _, label, used in taught]
            features = [self._features(out) for out, _, _ in taught]
            loss_ac, loss_sim = self.contrast(features, labels)  # eqs. 15 and 16
            losses |= {"anchor": settings.lambda_ctr * loss_ac, "similarity": settings.lambda_ctr * loss_sim}
            self.contrast.collect(self._features(seen)[: len(x_l)], seen.logits_BKHW[: len(x_l)], labeled.mask_BHW)
            stats["unseen"] = (~self.contrast.seen_K).to(loss_ac.dtype)
        return StepOutput(losses, stats, tuple(terms), Weak(self.gen, x_w, weak_pro))

    def _augmented(self, views: Views, images: Images) -> Tensor:
        return views.strong(images, "s1") if self.settings.colour else views.weak(images)

    def _partners(self, others: Images | None, views: Views) -> tuple[Pseudo | None, Pseudo | None]:
        """Pseudo-labels of both teachers for partners that are not of the micro-batch."""
        if others is None:
            return None, None
        x_w = views.weak(others)
        gen = Pseudo.of(self.gen_teacher(x_w), others)
        return gen, Pseudo.of(self.pro_teacher(x_w), others) if self.pro_teacher else gen

    def _select(self, pro_BKHW: Tensor, y_gen: Pseudo) -> Tensor:
        """The pseudo-labels of Gen-Teacher that Pro-Student learns, bool (B, H, W)."""
        predicted = pro_BKHW.detach().argmax(1)
        score_K = mismatch_scores(predicted, y_gen.label_BHW, y_gen.valid_BHW, self.build.classes)  # eq. 5
        sets = pixel_sets(predicted, y_gen.label_BHW, score_K)  # eq. 6
        selected = torch.zeros_like(y_gen.valid_BHW)
        for name in set(self.settings.pixel_selection.split("+")) & set(SETS):
            selected = selected | sets[name]
        return selected

    def _features(self, out: Out) -> Tensor:
        return out.context if self.settings.projection_input == "aspp" else out.fused

    def after_step(self, clock: Clock) -> None:
        self.gen_teacher.update(self.gen, clock.step, self.settings.alpha)
        if self.pro is not None and self.pro_teacher is not None:
            self.pro_teacher.update(self.pro, clock.step, self.settings.alpha)
        if self.contrast is not None:
            self.contrast.after_step(clock, self.settings.alpha)

    def deployed(self) -> Net:
        nets = {"gen_student": self.gen, "gen_teacher": self.gen_teacher.net, "pro_student": self.pro}
        if self.pro_teacher is not None:
            nets["pro_teacher"] = self.pro_teacher.net
        net = nets[self.settings.deployed]
        assert net is not None
        return net


def run(net: Net, image_B3HW: Tensor) -> Out:
    return net.decode(net.encode(image_B3HW), (image_B3HW.shape[2], image_B3HW.shape[3]))


def class_pixels(y: Pseudo, selected_BHW: Tensor) -> dict[str, Tensor]:
    """Valid pseudo-labels of every class, and how many of them were kept: float (K,) each."""
    found = y.conf_BHW.new_zeros(2, y.logits_BKHW.shape[1])
    for row, counted in enumerate((y.valid_BHW, y.valid_BHW & selected_BHW)):
        found[row].scatter_add_(0, y.label_BHW.flatten(), counted.flatten().to(found))
    return {"pseudo_pixels": found[0], "kept_pixels": found[1]}
