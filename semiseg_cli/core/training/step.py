"""One forward of a method on one micro-batch: everything that DDP wraps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semiseg_cli.core.methods.base import Method, StepOutput
from semiseg_cli.core.models import build_decoder, build_segmenter
from semiseg_cli.core.ops.draws import Draws
from semiseg_cli.core.ops.losses import cross_entropy, ohem, ohem_min_kept
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.types import Batch, Clock, Decoder, Images, Net
from semiseg_cli.core.views import DeviceViews


class Builder:
    """Makes networks and the labeled loss for one run: the `Build` that methods are given.

    spec: of `build_segmenter`, not classes and seeds. prepare: called on every fresh network (weights, memory format).
    class_weights: (classes,) on the device of the run, which a step then need not wait for.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        classes: int,
        *,
        seed: int = 0,
        loss: str = "ce",
        class_weights: Tensor | None = None,
        ignore: int = 255,
        prepare: Any = None,
    ) -> None:
        self.spec, self.classes, self.seed = spec, classes, seed
        self.loss, self.class_weights, self.ignore, self.prepare = loss, class_weights, ignore, prepare

    def segmenter(self, head_seed: int = 0) -> Net:
        net = build_segmenter(classes=self.classes, seed=self.seed, head_seed=head_seed, **self.spec)
        if self.prepare is not None:
            self.prepare(net)
        return net

    def decoder(self, head_seed: int = 1) -> Decoder:
        spec = {key: value for key, value in self.spec.items() if key != "freeze_bn"}  # of the encoder alone
        return build_decoder(classes=self.classes, seed=self.seed, head_seed=head_seed, **spec)

    def teacher(self, net: Net) -> Teacher[Net]:
        return Teacher(net)

    def labeled_loss(self, logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
        if self.loss == "ohem":
            return ohem(logits_BKHW, mask_BHW, min_kept=ohem_min_kept(*mask_BHW.shape), ignore=self.ignore)
        return cross_entropy(logits_BKHW, mask_BHW, self.class_weights, self.ignore)


class Train(nn.Module):
    """A method under autocast, fed with uint8 micro-batches.

    seed: of the run. amp: bfloat16 autocast. colour, cutmix: strength of the strong views' colour augmentation, and
    probability of their box. Draws depend on (seed, step, slot) alone; torch's own generator is seeded per step too,
    for dropout inside networks.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        method: Method,
        *,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        amp: bool = False,
        colour: float = 1.0,
        cutmix: float = 0.5,
    ) -> None:
        super().__init__()
        self.method, self.seed, self.amp = method, seed, amp
        self.colour, self.cutmix = colour, cutmix
        self.make_views: type[DeviceViews] = DeviceViews  # pictures are made with others
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def views(self, clock: Clock, slots: Any, size: tuple[int, int]) -> DeviceViews:
        return self.make_views(Draws(self.seed, clock.step, slots), self.mean, self.std, size, self.colour, self.cutmix)

    def forward(
        self, host: dict[str, Tensor], clock: Clock, slots: Any, phase: int = 0, carry: Any = None
    ) -> StepOutput:
        batch = to_batch(host, clock, self.mean.device)
        torch.manual_seed(int(np.random.SeedSequence([self.seed, clock.step, int(slots[0])]).generate_state(1)[0]))
        size = (batch.labeled.rgb01_B3HW.shape[2], batch.labeled.rgb01_B3HW.shape[3])
        with torch.autocast(self.mean.device.type, torch.bfloat16, enabled=self.amp):
            return self.method.step(batch, self.views(clock, slots, size), phase, carry)


def to_batch(host: dict[str, Tensor], clock: Clock, device: torch.device) -> Batch:
    """Copy a host micro-batch to the device (without waiting, if it is pinned) and to float."""

    def images(name: str) -> Images | None:
        if f"{name}_image" not in host:
            return None
        got = {
            key: host[f"{name}_{key}"].to(device, non_blocking=True)
            for key in ("image", "valid", "index", "mask")
            if f"{name}_{key}" in host
        }
        rgb = got["image"].permute(0, 3, 1, 2).float().div_(255).contiguous()
        mask = got["mask"].long() if "mask" in got else None
        return Images(rgb, got["valid"].bool(), got["index"], mask)

    labeled = images("labeled")
    assert labeled is not None
    return Batch(labeled, clock, images("unlabeled"), images("second"), images("paired"))
