"""How large images and crops are where nobody said it: chosen from the images, so that a crop shows surroundings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.models import build_encoder
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.training.setup import WIDEST_VIEW, usual_side

LARGEST = 513  # crop that is chosen: what the published recipes train on, and GPUs have the memory for
PRESET = "preset small"  # for whatever photos there are: its sizes are no recipe


def sized(
    resolved: Resolved, dataset: Dataset, cuda: bool, note: Callable[[str], None] = lambda line: None
) -> Resolved:
    """The configuration with `train.crop` and `data.long_side` as they suit the images, where both are only defaults.

    A crop becomes a multiple of what the encoder takes. Where it would show less than a quarter of the long side,
    images are shown reduced on a CPU, on which larger crops take many times as long; on CUDA crops are larger. What was
    chosen stands in the configuration with its reason as the origin. note: is told in a line.
    """
    config, origin = resolved.config, resolved.origins["train.crop"]
    if origin not in ("default", PRESET) and not origin.startswith("recipe"):
        return resolved
    with torch.device("meta"):  # only what it states is wanted
        multiple = build_encoder(config.model.backbone, output_stride=config.model.output_stride).multiple
    crop, side = fit_side(config.train.crop, multiple), usual_side(dataset.shown(config.data.long_side))
    changes, reason = {"train.crop": crop}, f"chosen: a multiple of the encoder's {multiple} pixels"
    told = f"crops of {crop} pixels"
    if side > WIDEST_VIEW * crop:
        reason = f"chosen: images of {side} pixels"
        if cuda or resolved.origins["data.long_side"] != "default":
            changes = {"train.crop": (larger := half(min(side, 2 * LARGEST), multiple))}
            told = f"images of {side} pixels: crops of {larger}, which show {larger / side:.0%} of their long side"
        else:
            changes["data.long_side"] = reduced = 2 * crop + 15
            told = (
                f"images of {side} pixels are shown at {reduced}, in training and in use, so that crops of {crop} show "
                f"half of them at a CPU's pace; larger: -s data.long_side=0 -s train.crop={half(side, multiple)}"
            )
    return _with(resolved, changes, reason, told, note)


def half(side: int, multiple: int) -> int:
    """About half of a side: a multiple of what the encoder takes, or of 16 plus 1."""
    return fit_side(side, multiple, 0.5) if multiple > 1 else 16 * (side // 32) + 1


def _with(
    resolved: Resolved, changes: dict[str, int], reason: str, told: str, note: Callable[[str], None]
) -> Resolved:
    config = resolved.config
    before: dict[str, Any] = {"train.crop": config.train.crop, "data.long_side": config.data.long_side}
    if all(before[name] == value for name, value in changes.items()):
        return resolved
    note(told)
    train = replace(config.train, crop=changes["train.crop"])
    data = replace(config.data, long_side=changes.get("data.long_side", config.data.long_side))
    origins = resolved.origins | {name: reason for name, value in changes.items() if before[name] != value}
    return Resolved(replace(config, train=train, data=data), origins)
