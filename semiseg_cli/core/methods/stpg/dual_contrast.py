"""Dual contrastive learning with anchors: section 3.3 of STPG (arXiv 2409.12680), with its state in buffers.

Shapes: B images, C channels, h w feature pixels, P = B h w, K classes, D dimensions, S sampled pixels of all students.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg_cli.core.methods.stpg.anchors import assign, make_anchors
from semiseg_cli.core.methods.stpg.contrast import anchor_loss, draw_pixels, first_of_class, similarity_loss
from semiseg_cli.core.methods.stpg.hashing import of_places
from semiseg_cli.core.methods.stpg.memory import ClassMemory
from semiseg_cli.core.methods.stpg.projection import Projection
from semiseg_cli.core.ops.processes import gathered, summed
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.types import Clock, Moment, at_least_float32

PROTOTYPE_DECAY = 0.99  # alpha of eq. 13
RARE = 3  # a class that is labeled less than once in so many steps is not waited for


class DualContrast(nn.Module):
    """Anchors, prototypes, memory, and the projection heads of all students and of the teacher of the first.

    Steps only collect what the teacher makes of labeled images; `after_step` takes it in, from all micro-batches and
    processes together, so that their number changes nothing and all processes keep the same state.
    """

    anchors_KD: Tensor
    prototypes_KD: Tensor
    seen_K: Tensor
    assignment_K: Tensor

    def __init__(
        self,
        classes: int,
        channels: int,
        dimensions: int,
        *,
        students: int,
        seed: int,
        temperature: float,
        match_after: int,
        memory_size: int,
        memory_topk: int,
        pixels_per_class: int,
        phi: float,
    ) -> None:
        super().__init__()
        self.classes, self.temperature, self.match_after, self.phi = classes, temperature, match_after, phi
        self.memory_topk, self.pixels_per_class = memory_topk, pixels_per_class
        heads = [Projection(channels, dimensions, seed * students + student) for student in range(students)]
        self.heads, self.teacher = nn.ModuleList(heads), Teacher(heads[0])
        self.memory = ClassMemory(classes, memory_size, dimensions)
        anchors = make_anchors(classes, dimensions, temperature)  # eq. 12
        self.register_buffer("anchors_KD", anchors)
        self.register_buffer("prototypes_KD", torch.zeros_like(anchors))
        self.register_buffer("seen_K", torch.zeros(classes, dtype=torch.long))  # steps that a class was labeled in
        self.register_buffer("assignment_K", torch.full((classes,), -1))
        self.settled = False  # every class is known to have an anchor: nothing to look for any more
        self.collected: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def forward(
        self, features: Sequence[Tensor], labels: Sequence[Tensor], numbers: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """L_ac and L_sim over pixels drawn from all students' maps; 0 as long as no class has an anchor.

        features: (B, C, h, w) of each student. labels: int64 (B, H, W) of each, K or more where there is none.
        numbers: (B,) of each, random (`hashing`): which pixels are drawn, and their dropout, follow from them.
        """
        vectors, classes, taken = [], [], []
        for head, map_BChw, label_BHW, number_B in zip(self.heads, features, labels, numbers, strict=True):
            pixels_PC, label_P = _rows(map_BChw, label_BHW)
            number_P = of_places(number_B, len(label_P) // len(number_B)).flatten()
            index_S, drawn_S = draw_pixels(number_P, label_P, self.classes, self.pixels_per_class)
            vectors.append(head(pixels_PC.index_select(0, index_S), number_P[index_S] if self.training else None))
            classes.append(label_P[index_S].where(drawn_S, 0))
            taken.append(drawn_S)
        f_SD, class_S, taken_S = torch.cat(vectors), torch.cat(classes), torch.cat(taken)
        anchors, assigned = self._own_anchors()
        return (
            anchor_loss(f_SD, class_S, taken_S, anchors, assigned, self.temperature),
            similarity_loss(f_SD, class_S, taken_S, self.memory.means(), self.memory.written_K),
        )

    @torch.no_grad()
    def collect(self, map_BChw: Tensor, logits_BKHW: Tensor, mask_BHW: Tensor) -> None:
        """What the teacher makes of labeled images: sums for the prototypes, and candidates for the memory."""
        pixels_PC, label_P = _rows(map_BChw, mask_BHW)
        f_PD, bins = self.teacher(pixels_PC), label_P.clamp(max=self.classes)
        sums = f_PD.new_zeros(self.classes + 1, f_PD.shape[1]).index_add_(0, bins, f_PD)
        count = f_PD.new_zeros(self.classes + 1).index_add_(0, bins, torch.ones_like(f_PD[:, 0]))

        small = sample(at_least_float32(logits_BKHW).flatten(0, 1), (map_BChw.shape[2], map_BChw.shape[3]))
        conf, predicted = small.unflatten(0, logits_BKHW.shape[:2]).softmax(1).max(1)
        anchors, assigned = self._own_anchors()
        own = label_P.where(label_P < self.classes, 0)
        good = (conf.flatten() > self.phi) & (predicted.flatten() == label_P) & assigned[own]
        near = (f_PD * anchors.to(f_PD)[own]).sum(1)  # of unit vectors the largest product is the least distance
        order = near.argsort(descending=True)
        index_KM, exists_KM = first_of_class(order, label_P.where(good, self.classes), self.classes, self.memory_topk)
        score_KM = near[index_KM].masked_fill(~exists_KM, -torch.inf)
        self.collected.append((sums[:-1], count[:-1], f_PD[index_KM], score_KM))

    @torch.no_grad()
    def after_step(self, moment: Moment, alpha: float) -> None:
        """EMA update of the teacher's head; what was collected is taken in."""
        self.teacher.update(self.heads[0], moment, alpha)
        if self.collected:
            sums, counts, vectors, scores = zip(*self.collected, strict=True)
            self.collected = []
            self._move_prototypes(summed(torch.stack(sums).sum(0)), summed(torch.stack(counts).sum(0)))
            self.memory.push(gathered(torch.cat(vectors, 1), 1), gathered(torch.cat(scores, 1), 1), self.memory_topk)

    @torch.no_grad()
    def settle(self, clock: Clock) -> None:
        """Eq. 14, on the host, between steps: every `match_after` steps it waits for the device, until all is settled.

        Classes are matched once all prototypes have had `match_after` updates. When the commonest has had RARE times
        as many, those that have are, and each of the others as soon as it has: it may be in no label at all.
        """
        if self.settled or (clock.step + 1) % self.match_after:
            return
        seen_K = self.seen_K.cpu()
        stable_K = seen_K >= self.match_after
        if stable_K.all() or seen_K.max() >= RARE * self.match_after:
            self.assignment_K.copy_(assign(self.anchors_KD, self.prototypes_KD, stable_K, self.assignment_K))
            self.settled = bool(stable_K.all())

    def _move_prototypes(self, sums_KD: Tensor, count_K: Tensor) -> None:
        """Eq. 13 for the classes of this step, begun as a plain mean: a first batch would weigh 0.99^n for long."""
        mean_KD = (sums_KD / count_K.clamp(min=1)[:, None]).to(self.prototypes_KD)
        share_K = (1 / (self.seen_K + 1)).clamp(min=1 - PROTOTYPE_DECAY) * (count_K > 0)
        self.prototypes_KD.lerp_(mean_KD, share_K.to(mean_KD)[:, None])
        self.seen_K += count_K > 0

    def _own_anchors(self) -> tuple[Tensor, Tensor]:
        """The anchor of every class, (K, D), and which classes have one, bool (K,)."""
        return self.anchors_KD[self.assignment_K.clamp(min=0)], self.assignment_K >= 0


def _rows(map_BChw: Tensor, label_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Features as rows (P, C), and the label of each."""
    label = sample(label_BHW, (map_BChw.shape[2], map_BChw.shape[3]))
    return map_BChw.permute(0, 2, 3, 1).flatten(0, 2), label.flatten()
