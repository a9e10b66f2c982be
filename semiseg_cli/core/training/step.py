"""A method's step on one micro-batch: the warm-up, autocast, and what stands between the loader and the method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from semiseg_cli.core.data.loader import HostBatch
from semiseg_cli.core.methods.base import Method, StepOutput
from semiseg_cli.core.models import build_decoder, build_segmenter
from semiseg_cli.core.networks import Decoder, Net
from semiseg_cli.core.ops.draws import Draws, Slots, neighbours
from semiseg_cli.core.ops.losses import cross_entropy, ohem, ohem_min_kept
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.training.pool import Pool
from semiseg_cli.core.types import Batch, Clock, Images, Labeled, Moment, SemiBatch
from semiseg_cli.core.views.device import DeviceViews, ViewSettings


class Builder:
    """Makes networks and the labeled loss for one run: the `Build` that methods are given.

    spec: of `build_segmenter`, not classes and seeds. prepare: called on every fresh network (weights, memory format).
    class_weights: (classes,) on the device of the run, which a step then need not wait for. by_batch: of `Teacher`.
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
        by_batch: tuple[type[nn.Module], ...] = (),
    ) -> None:
        self.spec, self.classes, self.seed = spec, classes, seed
        self.loss, self.class_weights, self.ignore, self.prepare = loss, class_weights, ignore, prepare
        self.by_batch = by_batch

    def segmenter(self, head_seed: int = 0) -> Net:
        net = build_segmenter(classes=self.classes, seed=self.seed, head_seed=head_seed, **self.spec)
        if self.prepare is not None:
            self.prepare(net)
        return net

    def decoder(self, head_seed: int = 1) -> Decoder:
        spec = {key: value for key, value in self.spec.items() if key not in ("freeze_bn", "freeze_encoder")}
        return build_decoder(classes=self.classes, seed=self.seed, head_seed=head_seed, **spec)

    def teacher(self, net: Net) -> Teacher[Net]:
        return Teacher(net, self.by_batch)

    def labeled_loss(self, logits_BKHW: Tensor, labeled: Labeled) -> Tensor:
        """The run's loss on labeled pixels: their mean over the global batch, or OHEM within the micro-batch."""
        mask = labeled.mask_BHW
        if self.loss == "ohem":
            return ohem(logits_BKHW, mask, self.class_weights, min_kept=ohem_min_kept(*mask.shape), ignore=self.ignore)
        return cross_entropy(logits_BKHW, mask, self.class_weights, self.ignore, labeled.step_mask_MHW)


class Train(nn.Module):
    """A method under autocast, fed with uint8 micro-batches.

    seed: of the run; draws depend on (seed, step, slot) alone. amp: bfloat16 autocast. pool: where crops are cut from,
    if not on the host; no part of the module, which is saved and moved.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        method: Method[Any],
        *,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        amp: bool = False,
        views: ViewSettings | None = None,
    ) -> None:
        super().__init__()
        self.method, self.seed, self.amp = method, seed, amp
        self.view_settings = views or ViewSettings()
        self.pool: Pool | None = None
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(
        self,
        host: HostBatch,
        clock: Clock,
        slots: Slots,
        batch: int = 0,
        step: Step | None = None,
        moment: Moment | None = None,
    ) -> Iterator[StepOutput]:
        """The method's step on one micro-batch: what each of its backward passes is of, in their order.

        slots: of the images, among `batch` of the global batch (0: these are all). step: what the other micro-batches
        of this process bring, where there are others. moment: what the step knows of the time, if that is not the clock
        itself. The caller differentiates each output before it takes the next.
        """
        method, clock, batch = self.method, self.staged(clock), batch or len(slots)
        moment = moment or clock
        micro = self.to_batch(host, moment, step)
        views = self.views(moment, slots, batch, micro, slots if step is None else step.slots)
        with self._autocast():
            if method.stage(clock) == "labels":
                passes = iter([method.label_step(micro, views)])
            else:
                out = method.step(micro, views)
                passes = iter([out]) if isinstance(out, StepOutput) else out
        while True:
            with self._autocast():
                found = next(passes, None)
            if found is None:
                return
            yield found
            del found  # what it holds would lie beside the next pass

    def staged(self, clock: Clock) -> Clock:
        """The clock, and when the method's present stage began."""
        began = 0.0 if self.method.stage(clock) == "labels" else self.method.warmup
        return replace(clock, stage_began=began)

    def views(
        self, moment: Moment, slots: Slots, batch: int, micro: Batch, step_slots: Slots | None = None
    ) -> DeviceViews:
        """Of a micro-batch, and of the images that are pasted into it."""
        size = (micro.labeled.rgb01_B3HW.shape[2], micro.labeled.rgb01_B3HW.shape[3])

        def of(slots: Slots, suffix: str = "", partner: DeviceViews | None = None) -> DeviceViews:
            draws = Draws(self.seed, 0, slots, batch, suffix)
            of_step = Draws(self.seed, 0, slots if step_slots is None else step_slots, batch, suffix)
            return DeviceViews(moment, draws, of_step, self.mean, self.std, size, self.view_settings, partner)

        second = self.method.takes("second")
        return of(slots, partner=of(slots, "/second") if second else of(neighbours(slots, batch)))

    def to_batch(self, host: HostBatch, moment: Moment, step: Step | None = None) -> Batch:
        """Copy a host micro-batch to the device (without waiting, if it is pinned) and to float."""
        device = self.mean.device

        def tensors(name: str) -> dict[str, Tensor]:
            got = {k: host[f"{name}_{k}"].to(device, non_blocking=True) for k in ("image", "valid", "index")}
            rgb = got["image"].permute(0, 3, 1, 2).to(self.mean.dtype).div_(255).contiguous()
            valid = got["valid"].bool()
            step_valid = valid if step is None else step.maps[f"{name}_valid"].to(device, non_blocking=True).bool()
            return {"rgb01_B3HW": rgb, "valid_BHW": valid, "index_B": got["index"], "step_valid_MHW": step_valid}

        def images(name: str) -> Images | None:
            return Images(**tensors(name)) if f"{name}_image" in host else None

        def labeled(name: str) -> Labeled | None:
            if f"{name}_image" not in host:
                return None
            mask = host[f"{name}_mask"].to(device, non_blocking=True).long()
            whole = mask if step is None else step.maps[f"{name}_mask"].to(device, non_blocking=True).long()
            return Labeled(**tensors(name), mask_BHW=mask, step_mask_MHW=whole)

        own, unlabeled = labeled("labeled"), images("unlabeled")
        assert own is not None
        if unlabeled is None:
            return Batch(labeled=own, clock=moment, labeled_partner=labeled("labeled_partner"))
        return SemiBatch(
            labeled=own, clock=moment, unlabeled=unlabeled, partner=images("partner"), paired=labeled("paired")
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.mean.device.type, torch.bfloat16, enabled=self.amp)


class Step:
    """What is known of all micro-batches of a process's step before the first runs: masks, padding, slots."""

    def __init__(self, hosts: list[HostBatch], slots: Slots) -> None:
        self.slots = slots
        joined = {
            name: torch.cat([host[name] for host in hosts]) for name in hosts[0] if name.endswith(("_valid", "_mask"))
        }
        pin = next(iter(hosts[0].values())).is_pinned()
        self.maps: Mapping[str, Tensor] = {name: x.pin_memory() if pin else x for name, x in joined.items()}
