"""A method without batch norm whose images all count alike: the gradient of a batch is the mean of its parts'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.methods.base import Batch, Method, Step, StepOutput, Views
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.loop import Hooks
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.views.photometric import Photometric

PLAN = Plan(seed=0, start=0, steps=6, batch=8, micro=8, crop=17, scale=(1.0, 1.0))
CONFIG = TrainConfig(
    steps=6, batch=8, lr=0.1, head_lr_multiplier=1.0, log_every=2, save_every=3, eval_every=4, crop=32
)


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    bad_step: int = -1  # its loss is not a number


class Toy(Method[Batch]):
    Settings = ToySettings

    def __init__(self, bad_step: int = -1) -> None:
        super().__init__(ToySettings(bad_step=bad_step), None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 1))
        self.clocks = list[int]()

    def step(self, batch: Batch, views: Views) -> Step:
        logits = self.net(views.strong(batch.labeled, "labeled", Photometric()))
        loss = F.cross_entropy(logits, batch.labeled.mask_BHW)
        if batch.clock.step == self.settings.bad_step:
            loss = loss * torch.nan
        return StepOutput({"labeled": loss}, {"share": loss.detach() / 2})

    def after_step(self, clock: Any) -> None:
        self.clocks.append(clock.step)

    def deployed(self) -> Any:
        return self.net


class TwoPasses(Toy):
    """The same loss in two unequal parts, the second of which begins when the first is differentiated."""

    def step(self, batch: Batch, views: Views) -> Iterator[StepOutput]:
        for part, share in enumerate((0.3, 0.7)):
            out = super().step(batch, views)
            assert isinstance(out, StepOutput)
            yield StepOutput({f"part{part}": share * out.losses["labeled"]})
            assert all(p.grad is not None for p in self.net.parameters())


def wrapped(method: Method[Any]) -> Train:
    return Train(method, seed=0, mean=(0.5,) * 3, std=(0.2,) * 3)


def batches(plan: Plan) -> Iterator[dict[str, Tensor]]:
    """What the loader of `plan` would bring: its slots of one batch a step that all processes know."""
    for step in range(plan.start, plan.steps):
        rng = np.random.default_rng([7, step])
        mask = rng.integers(0, 4, (plan.batch, plan.crop, plan.crop), dtype=np.uint8)
        image = np.stack([60 * mask, 40 + 30 * mask, rng.integers(0, 99, mask.shape, dtype=np.uint8)], 3)
        for part in range(plan.accumulation):
            slots = plan.slots(part)
            yield {
                "labeled_image": torch.from_numpy(image[slots]),
                "labeled_mask": torch.from_numpy(mask[slots]),
                "labeled_valid": torch.ones(len(slots), plan.crop, plan.crop, dtype=torch.uint8),
                "labeled_index": torch.from_numpy(slots),
            }


@dataclass
class Diary:
    """Hooks that write down what they are called with."""

    stop_at: int = -1
    stop_in: int = -1  # the evaluation after this step
    rows: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    advanced: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stopping(self) -> bool:
        return 0 <= self.stop_at <= len(self.advanced)  # a signal is not forgotten

    def evaluate(self, step: int) -> bool:
        """It is broken off where a stop is asked for in it."""
        self.evaluated.append(step)
        return step != self.stop_in

    @property
    def hooks(self) -> Hooks:
        return Hooks(
            self.rows.append, self.shown.append, self.evaluate, self.saved.append, self.stopping,
            self.advanced.append,
        )  # fmt: skip
