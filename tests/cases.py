"""For tests that derive a method's step once more from its paper: the same images, views and weights, other code."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock, Images, SemiBatch

CLOCK, SLOTS, SIDE = Clock(5, 10), np.arange(3), 33


class Case:
    """A method before its step, a copy of its student, and the same views for both."""

    def __init__(self, train: Train, host: dict[str, Tensor]) -> None:
        self.train, self.tau = train, train.method.settings.tau
        batch = train.to_batch(host, CLOCK)
        assert isinstance(batch, SemiBatch)
        self.batch, self.views = batch, train.views(CLOCK, SLOTS, len(SLOTS), batch)
        self.labeled, self.unlabeled, self.second = batch.labeled, batch.unlabeled, batch.partner
        self.x_l, self.x_w = self.normalised(self.labeled), self.normalised(self.unlabeled)
        self.settle()
        self.net: Segmenter = copy.deepcopy(train.method.net)

    def settle(self) -> None:
        """Away from the first weights, a teacher from its student, with running statistics that fit the images."""
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.train.method.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=noise))
            for net in (m for m in self.train.method.modules() if isinstance(m, Segmenter)):
                mode = net.training
                net.train()
                for _ in range(20):
                    net(self.x_w)
                net.train(mode)

    def normalised(self, images: Images) -> Tensor:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (images.rgb01_B3HW - mean[:, None, None]) / std[:, None, None]

    def step(self) -> StepOutput:
        return self.train.method.step(self.batch, self.train.views(CLOCK, SLOTS, len(SLOTS), self.batch))

    def mixed(self, key: str, own: Sequence[Tensor], partner: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Strong image, label, confidence and valid after CutMix; the partner is of the batch unless given."""
        strong = self.views.strong(self.unlabeled, key)
        if partner is None:
            other = [t[[1, 2, 0]] for t in (strong, *own)]
        else:
            assert self.second is not None
            other = [self.views.partner.strong(self.second, key), *partner]
        boxes = self.views.cutmix(self.unlabeled, key, self.second).mask_BHW
        out = []
        for mine, theirs in zip((strong, *own), other, strict=True):
            result = mine.clone()
            for b in range(len(mine)):
                result[b][..., boxes[b]] = theirs[b][..., boxes[b]]
            out.append(result)
        return out


def pseudo(logits: Tensor, valid: Tensor) -> list[Tensor]:
    probability = logits.detach().softmax(1)
    return [probability.argmax(1), probability.amax(1), valid]


def unsupervised(case: Case, logits: Tensor, label: Tensor, conf: Tensor, valid: Tensor) -> Tensor:
    loss = F.cross_entropy(logits, label, reduction="none")
    return (loss * (conf >= case.tau) * valid).sum() / valid.sum()


def supervised(case: Case, logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, case.labeled.mask_BHW, ignore_index=255)
