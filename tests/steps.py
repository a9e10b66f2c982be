"""For tests: a micro-batch through a method as the loader and the loop would have it, and the parts of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.ops.draws import Draws
from semiseg_cli.core.training.step import Step, Train
from semiseg_cli.core.types import Clock, Images, Labeled, Pseudo
from semiseg_cli.core.views.device import DeviceViews, ViewSettings
from semiseg_cli.core.views.photometric import Photometric


def fed(train: Train, batch: dict[str, Tensor], partners: str = "") -> dict[str, Tensor]:
    """No more than the method asks for. partners: "loaded" where the micro-batch lacks them."""
    takes = train.method.takes
    wanted = {"labeled"} | {name for name in ("unlabeled", "paired") if takes(name)}
    if takes("second") or (partners == "loaded" and takes("mix")):
        wanted.add("partner" if takes("unlabeled") else "labeled_partner")
    return {key: value for key, value in batch.items() if key.rsplit("_", 1)[0] in wanted}


def whole_step(
    train: Train, batch: dict[str, Tensor], clock: Clock, slots: Any = None, of: int = 0, step: Step | None = None,
    *, backward: bool = True, share: float = 1.0,
) -> StepOutput:  # fmt: skip
    """All passes of one micro-batch together; `backward` leaves their gradients, times `share`."""
    slots = np.arange(len(batch["labeled_index"])) if slots is None else slots
    whole = StepOutput({})
    for out in train(batch, clock, slots, of, step):
        if backward:
            (torch.stack(list(out.losses.values())).sum() * share).backward()
        whole = whole.plus(out)
    return whole


def images_of(rgb01_B3HW: Tensor, valid_BHW: Tensor | None = None) -> Images:
    """Images of an undivided step, all valid if it is not said."""
    count, _, height, width = rgb01_B3HW.shape
    valid = torch.ones(count, height, width, dtype=torch.bool) if valid_BHW is None else valid_BHW
    return Images(rgb01_B3HW, valid, torch.arange(count), valid)


def pseudo_of(logits_BKHW: Tensor, valid_BHW: Tensor) -> Pseudo:
    count, _, height, width = logits_BKHW.shape
    return Pseudo.of(logits_BKHW, images_of(torch.zeros(count, 3, height, width), valid_BHW))


def labeled_of(mask_BHW: Tensor) -> Labeled:
    """Labeled images of an undivided step that are black."""
    images = images_of(torch.zeros(len(mask_BHW), 3, *mask_BHW.shape[1:]))
    return Labeled(*vars(images).values(), mask_BHW, mask_BHW)


def views_of(
    slots: Any, size: tuple[int, int], *, step: int = 0, seed: int = 0, batch: int = 0, strength: float = 1.0,
    mean: Tensor | None = None, std: Tensor | None = None,
) -> DeviceViews:  # fmt: skip
    """Views of some slots of a global batch (the even number that holds them, if it is not said)."""
    slots = np.array(slots)
    draws = Draws(seed, step, slots, batch or (int(slots.max()) + 2) // 2 * 2)
    clock = Clock(step, step + 1)
    mean, std = torch.zeros(3) if mean is None else mean, torch.ones(3) if std is None else std
    settings = ViewSettings(Photometric(strength) if strength else None)
    return DeviceViews(clock, draws, draws, mean, std, size, settings)
