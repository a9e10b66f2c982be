"""Dual contrastive learning with anchors: section 3.3 of STPG (arXiv 2409.12680), with its state in buffers.

Shapes: B images, C channels, h w feature pixels, P = B h w, K classes, D dimensions, S sampled pixels of all students.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.ops.anchors import assign, make_anchors
from semiseg_cli.core.ops.contrast import anchor_loss, draw_pixels, first_of_class, similarity_loss
from semiseg_cli.core.ops.memory import ClassMemory
from semiseg_cli.core.ops.processes import gathered, summed
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.types import Clock, at_least_float32

DROPOUT = 0.1  # of the projection heads
PROTOTYPE_DECAY = 0.99  # eq. 13
MATCH_EVERY = 10  # steps between looks whether classes can be matched with anchors: a look waits for the device


class Projection(nn.Module):
    """Conv-ReLU-dropout-conv with 1x1 convolutions, on rows of pixels: (P, channels) to unit vectors (P, dimensions).

    seed: its first weights depend on it alone. Dropout compares uniform numbers, which are the same on all processors.
    """

    def __init__(self, channels: int, dimensions: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.hidden, self.out = nn.Linear(channels, channels), nn.Linear(channels, dimensions)

    def forward(self, pixels_PC: Tensor) -> Tensor:
        hidden = F.relu(self.hidden(pixels_PC))
        if self.training:
            hidden = hidden * (torch.rand(hidden.shape, device=hidden.device) >= DROPOUT) / (1 - DROPOUT)
        return F.normalize(at_least_float32(self.out(hidden)), dim=-1)


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
        memory_size: int,
        memory_topk: int,
        pixels_per_class: int,
        phi: float,
    ) -> None:
        super().__init__()
        self.classes, self.temperature, self.phi = classes, temperature, phi
        self.memory_topk, self.pixels_per_class = memory_topk, pixels_per_class
        heads = [Projection(channels, dimensions, seed * students + student) for student in range(students)]
        self.heads, self.teacher = nn.ModuleList(heads), Teacher(heads[0])
        self.memory = ClassMemory(classes, memory_size, dimensions)
        anchors = make_anchors(classes, dimensions, temperature)  # eq. 12
        self.register_buffer("anchors_KD", anchors)
        self.register_buffer("prototypes_KD", torch.zeros_like(anchors))
        self.register_buffer("seen_K", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("assignment_K", torch.full((classes,), -1))
        self.settled = False  # every class is known to have an anchor: nothing to look for any more
        self.collected: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def forward(self, features: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """L_ac and L_sim over pixels drawn from all students' maps; 0 as long as no class has an anchor.

        features: (B, C, h, w) of each student. labels: int64 (B, H, W) of each, K or more where there is none.
        """
        vectors, classes, taken = [], [], []
        for head, map_BChw, label_BHW in zip(self.heads, features, labels, strict=True):
            pixels_PC, label_P = _rows(map_BChw, label_BHW)
            index_S, drawn_S = draw_pixels(label_P, self.classes, self.pixels_per_class)
            vectors.append(head(pixels_PC.index_select(0, index_S)))
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
    def after_step(self, clock: Clock, alpha: float) -> None:
        """The teacher's head follows, what was collected is taken in, and classes are matched when it is time."""
        self.teacher.update(self.heads[0], clock.step, alpha)
        if self.collected:
            sums, counts, vectors, scores = zip(*self.collected, strict=True)
            self.collected = []
            self._move_prototypes(summed(torch.stack(sums).sum(0)), summed(torch.stack(counts).sum(0)))
            self.memory.push(gathered(torch.cat(vectors, 1), 1), gathered(torch.cat(scores, 1), 1), self.memory_topk)
        due = not self.settled and (clock.step + 1) % MATCH_EVERY == 0
        if due and (clock.epoch >= 1 or bool(self.seen_K.all())):
            found = assign(self.anchors_KD, self.prototypes_KD, self.seen_K, self.assignment_K)  # eq. 14
            self.assignment_K.copy_(found)
            self.settled = bool((found >= 0).all())

    def _move_prototypes(self, sums_KD: Tensor, count_K: Tensor) -> None:
        """Eq. 13 for the classes of this step; the first mean of a class is its first prototype."""
        mean_KD = (sums_KD / count_K.clamp(min=1)[:, None]).to(self.prototypes_KD)
        share_K = torch.where(self.seen_K, 1 - PROTOTYPE_DECAY, 1.0) * (count_K > 0)
        self.prototypes_KD.lerp_(mean_KD, share_K.to(mean_KD)[:, None])
        self.seen_K |= count_K > 0

    def _own_anchors(self) -> tuple[Tensor, Tensor]:
        """The anchor of every class, (K, D), and which classes have one, bool (K,)."""
        return self.anchors_KD[self.assignment_K.clamp(min=0)], self.assignment_K >= 0


def _rows(map_BChw: Tensor, label_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Features as rows (P, C), and the label of each."""
    label = sample(label_BHW, (map_BChw.shape[2], map_BChw.shape[3]))
    return map_BChw.permute(0, 2, 3, 1).flatten(0, 2), label.flatten()
