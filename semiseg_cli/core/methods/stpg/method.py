"""STPG. Hong et al., "Semi-Supervised Semantic Segmentation with Professional and General Training", 2024,
arXiv 2409.12680.

Two students with the same first encoder and different heads, each with an EMA teacher. Professional module:
Pro-Student learns those pseudo-labels of Gen-Teacher that the two agree on, or whose class is the more disputed one.
General module: Gen-Student learns all of Pro-Teacher's. Pseudo-labels count by confidence; there is no threshold.
Dual contrastive learning pulls features of both students to a fixed anchor of their class, all anchors being equally
far apart, and to a memory of good features of their class. Gen-Student is evaluated.
L = L_s + lambda_u (L_gen + L_pro) + lambda_ctr (L_ac + L_sim) (eq. 17).

Where the paper is silent or printed otherwise: the decay of the teachers is min((1 + step) / (10 + step), alpha); the
unlabeled losses are divided by the valid pixels of the batch; labeled and strong images pass a student together, so
that batch norm sees both; CutMix pastes the three rectangles of CPS into every image (`train.cutmix` is 1), whose
overlaps show the image again, and both students see the same strong view. The presets take 80 epochs (240 on
Cityscapes) and weight decay 1e-4, of which the paper says nothing. The printed rate 1 - (i / n)^0.9 is read as
(1 - i / n)^0.9.

Of the contrast: the projection heads are 1x1 convolutions with dropout 0.1, so only the pixels that take part pass
them, and Gen-Teacher's is the EMA of Gen-Student's; features have unit length; labels are read at the places of the
feature map's pixels; labeled pixels have their mask, strong ones what teaches their student, where it counts; at most
256 pixels per class are ours (`pixels_per_class`). `temperature` is the paper's tau; eq. 15 counts its positive once;
in eq. 16 a feature whose class has an empty queue counts 0. A feature enters the memory if its class is also predicted
right, the 32 nearest of a batch (`memory_topk`, ours). A prototype is the plain mean of its first 100 updates, then
eq. 13; classes are matched with anchors ("at the early stages") after `match_after` steps with labeled pixels of each,
which is looked at every so many steps; once the commonest has had three times as many, the rest is not waited for but
matched class by class; a match is for good. Prototypes and memory stay empty during a warm-up (`warmup`).

Departures: up to `embedding` + 1 classes the anchors are the regular simplex, eq. 12 minimised in closed form, where
the paper descends from random points; both students start from the same encoder, where the paper says different
initialisations.

However a batch is divided, the result is the same (batch norm apart), but for two things: the matrix of eq. 5 counts
the pixels of one micro-batch of all processes, and L_ac and L_sim are means over the pixels drawn from one micro-batch
of one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from semiseg_cli.core.methods.base import (
    Build,
    Clock,
    CutMix,
    Images,
    Moment,
    Net,
    Out,
    Pseudo,
    SemiBatch,
    SemiSupervised,
    StepOutput,
    Term,
    Views,
    Weak,
)
from semiseg_cli.core.methods.stpg.dual_contrast import DualContrast
from semiseg_cli.core.methods.stpg.hashing import from_uniform
from semiseg_cli.core.methods.stpg.mismatch import SETS, mismatch_scores, pixel_sets
from semiseg_cli.core.methods.stpg.settings import STPGSettings
from semiseg_cli.core.ops.losses import by_confidence, pseudo_label_loss, pseudo_stats
from semiseg_cli.core.settings import Config, require

IGNORE = 255


@dataclass(frozen=True)
class Taught:
    """What a student says of labeled and strong images together, and the weighted pseudo-labels that teach it."""

    name: str
    net: Net
    out: Out
    logits_l: Tensor
    logits_s: Tensor
    pseudo: Pseudo
    weight_BHW: Tensor


class STPG(SemiSupervised):
    Settings = STPGSettings
    defaults: ClassVar[Mapping[str, Any]] = {"train.cutmix": 1.0}  # every image has its three rectangles
    divisible: ClassVar[Mapping[str, Any]] = {"lambda_ctr": 0.0, "pixel_selection": "all"}

    @classmethod
    def check(cls, config: Config) -> None:
        asked = config.method.colour and config.train.colour == 0
        require(not asked, "method.colour", True, "false where train.colour = 0 takes all colour augmentation away")

    @classmethod
    def unread(cls, settings: Any) -> Mapping[str, str]:
        mixed = {"cutmix": "method.name is stpg, all images being mixed"}
        return mixed | ({} if settings.colour else dict.fromkeys(("colour", "strong_view"), "method.colour is false"))

    def __init__(self, settings: STPGSettings, build: Build) -> None:
        super().__init__(settings, build)
        dual = settings.modules == "dual"
        self.gen = build.segmenter(head_seed=0)
        self.gen_teacher = build.teacher(self.gen)
        self.pro = build.segmenter(head_seed=1) if dual else None
        self.pro_teacher = build.teacher(self.pro) if self.pro else None
        self.contrast = self._dual_contrast(students=1 + dual) if settings.contrasts else None

    def _dual_contrast(self, students: int) -> DualContrast:
        settings, build = self.settings, self.build
        return DualContrast(
            build.classes,
            self.gen.widths["context"],
            settings.embedding,
            students=students,
            seed=build.seed,
            temperature=settings.temperature,
            match_after=settings.match_after,
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
        x_l, x_w = views.weak(labeled), views.weak(unlabeled)  # A^w
        mix = views.cutmix(unlabeled, "s1", others, rectangles=3)
        x_s = self._strong(batch, views, mix)  # A^s, the same for both students

        with torch.no_grad():
            seen = run(self.gen_teacher.net, torch.cat([x_l, x_w]) if self.contrast else x_w)
            weak_gen, weak_pro = self._pseudo_labels(seen.logits_BKHW[-len(x_w) :], x_w, unlabeled)
            pasted_gen, pasted_pro = None, None
            if others is not None:
                x_p = views.weak(others)
                pasted_gen, pasted_pro = self._pseudo_labels(self.gen_teacher(x_p), x_p, others)
        y_gen, y_pro = weak_gen.mix(mix, pasted_gen), weak_pro.mix(mix, pasted_pro)

        students: list[Taught] = []
        if self.pro is not None:  # the professional training module
            out, pro_l, pro_s = both(self.pro, x_l, x_s)  # eq. 2
            selected = self._select(pro_s, y_gen)
            weight = by_confidence(y_gen) * selected  # omega^Pro
            students.append(Taught("professional", self.pro, out, pro_l, pro_s, y_gen, weight))
        out, gen_l, gen_s = both(self.gen, x_l, x_s)  # eq. 8; the general training module
        students.append(Taught("general", self.gen, out, gen_l, gen_s, y_pro, by_confidence(y_pro)))

        loss_s = torch.stack([self.build.labeled_loss(one.logits_l, labeled) for one in students]).sum()  # eq. 1
        losses, terms = {"labeled": loss_s}, list[Term]()
        for one in students:
            loss_u = pseudo_label_loss(one.logits_s, one.pseudo, one.weight_BHW)  # eqs. 7 and 11
            losses[one.name] = settings.lambda_u * loss_u
            terms.append(Term(one.name, "strong", one.net, x_s, one.logits_s, one.pseudo, one.weight_BHW))
        stats = pseudo_stats(students[0].pseudo, students[0].weight_BHW)
        if self.pro is not None:
            stats |= class_pixels(students[0].pseudo, students[0].weight_BHW)

        if self.contrast is not None:
            loss_ac, loss_sim = self._contrasted(students, labeled.mask_BHW, views)  # eqs. 15 and 16
            losses |= {"anchor": settings.lambda_ctr * loss_ac, "similarity": settings.lambda_ctr * loss_sim}
            self.contrast.collect(seen.context[: len(x_l)], seen.logits_BKHW[: len(x_l)], labeled.mask_BHW)
            stats["unseen"] = (self.contrast.seen_K == 0).to(loss_ac.dtype)
        return StepOutput(losses, stats, tuple(terms), Weak(self.gen, x_w, weak_pro))  # eq. 17: the sum

    def _strong(self, batch: SemiBatch, views: Views, mix: CutMix) -> Tensor:
        """A^s: rectangles of the partner, and colour augmentation if asked for."""

        def view(views: Views, images: Images) -> Tensor:
            return views.strong(images, "s1") if self.settings.colour else views.weak(images)

        return mix(view(views, batch.unlabeled), view(views.partner, batch.partner) if batch.partner else None)

    def _pseudo_labels(self, gen_BKHW: Tensor, x_w: Tensor, images: Images) -> tuple[Pseudo, Pseudo]:
        """Of Gen-Teacher, whose logits are given (eqs. 3 and 4), and Pro-Teacher (9 and 10), or twice the first's."""
        gen = Pseudo.of(gen_BKHW, images)
        return gen, Pseudo.of(self.pro_teacher(x_w), images) if self.pro_teacher else gen

    def _select(self, pro_BKHW: Tensor, y_gen: Pseudo) -> Tensor:
        """The pseudo-labels of Gen-Teacher that Pro-Student learns, bool (B, H, W)."""
        if self.settings.selected == set(SETS):
            return torch.ones_like(y_gen.valid_BHW)
        predicted = pro_BKHW.detach().argmax(1)
        score_K = mismatch_scores(predicted, y_gen.label_BHW, y_gen.valid_BHW, self.build.classes)  # eq. 5
        sets = pixel_sets(predicted, y_gen.label_BHW, score_K)  # eq. 6
        return torch.stack([sets[name] for name in self.settings.selected]).any(0)

    def _contrasted(self, students: list[Taught], mask_BHW: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        """L_ac and L_sim over both students' features: labeled pixels by mask, others by the label that taught."""
        assert self.contrast is not None
        students = students[::-1]  # Gen-Student's projection head is the first, which Gen-Teacher has the EMA of
        labels = [torch.cat([mask_BHW, one.pseudo.label_BHW.where(one.weight_BHW > 0, IGNORE)]) for one in students]
        drawn = [views.table(f"contrast/{one.name}", 2, from_uniform).T.flatten() for one in students]
        loss_ac, loss_sim = self.contrast([one.out.context for one in students], labels, drawn)
        return loss_ac, loss_sim

    def after_step(self, moment: Moment) -> None:
        self.gen_teacher.update(self.gen, moment, self.settings.alpha)
        if self.pro is not None and self.pro_teacher is not None:
            self.pro_teacher.update(self.pro, moment, self.settings.alpha)
        if self.contrast is not None:
            self.contrast.after_step(moment, self.settings.alpha)  # eq. 13, memory

    def settle(self, clock: Clock) -> None:
        if self.contrast is not None:
            self.contrast.settle(clock)  # eq. 14

    def deployed(self) -> Net:
        return self.gen


def run(net: Net, image_B3HW: Tensor) -> Out:
    return net.decode(net.encode(image_B3HW), (image_B3HW.shape[2], image_B3HW.shape[3]))


def both(net: Net, x_l: Tensor, x_s: Tensor) -> tuple[Out, Tensor, Tensor]:
    """Labeled and strong images in one pass: what comes out, and the logits of each."""
    out = run(net, torch.cat([x_l, x_s]))
    logits_l, logits_s = out.logits_BKHW.split([len(x_l), len(x_s)])
    return out, logits_l, logits_s


def class_pixels(y: Pseudo, weight_BHW: Tensor) -> dict[str, Tensor]:
    """Valid pseudo-labels of every class, and how many of them count: float (K,) each."""
    found = y.conf_BHW.new_zeros(2, y.logits_BKHW.shape[1])
    for row, counted in enumerate((y.valid_BHW, weight_BHW > 0)):
        found[row].scatter_add_(0, y.label_BHW.flatten(), counted.flatten().to(found))
    return {"pseudo_pixels": found[0], "kept_pixels": found[1]}
