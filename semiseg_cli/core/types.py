"""The types that travel through a training step, from loader to method.

Shapes: B images of a micro-batch, M of all this process's micro-batches of the step, K classes, H W input pixels,
C channels, h w feature pixels. `rgb01_B3HW` is float32 in [0, 1], `valid_BHW` bool (False on the padding of a crop),
labels int64 with 255 (ignore) where nothing is known.

What is known before any network has run, masks and padding, is known of the whole step: a mean over pixels is then the
mean over the global batch, however it is divided (`per_micro_batch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.ops.processes import per_micro_batch

Recipe = Callable[["Clock"], Mapping[str, np.ndarray[Any, Any]]]  # small tables by name, made on the host
Rule = Callable[["Clock"], float]


class Moment(Protocol):
    """The time of a step as the step may know it: tensors that follow from the clock, never its numbers.

    A step that was captured as a graph is run again at other times. What it asks for here is made anew for each; what
    it had read from the clock, or brought from the host by itself, would stay as it was.
    """

    def tables(self, recipe: Recipe, like: Tensor) -> dict[str, Tensor]:
        """What `recipe` makes of the clock, on the device of `like`; floats in its dtype."""

    def value(self, rule: Rule, like: Tensor) -> Tensor:
        """The number that `rule` makes of the clock, for a ramp: a tensor without dimensions, alike."""


@dataclass(frozen=True)
class Clock:
    """Where the run stands. Drives every ramp, so that no method counts steps of its own. A `Moment`, made at once."""

    step: int  # of this step, from 0
    steps: int  # of the whole run
    epoch: float = 0.0  # passes over the unlabeled list (the labeled one where there is no other)
    stage_began: float = 0.0  # fraction of the run before this stage: what the warm-up took

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in [0, 1)."""
        return self.step / max(self.steps, 1)

    @property
    def stage_progress(self) -> float:
        """Fraction of the run that is done since this stage began, in [0, 1): what a method's ramps count from."""
        return self.progress - self.stage_began

    def tables(self, recipe: Recipe, like: Tensor) -> dict[str, Tensor]:
        return {name: _brought(table, like) for name, table in recipe(self).items()}

    def value(self, rule: Rule, like: Tensor) -> Tensor:
        return self.tables(as_table(rule), like)["value"]


def as_table(rule: Rule) -> Recipe:
    """A recipe for the one number of a rule."""
    return lambda clock: {"value": np.array(rule(clock), np.float64)}


def _brought(table: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    """A host table on the device of `like`, without waiting for it."""
    tensor = torch.from_numpy(np.asarray(table, order="C"))
    tensor = tensor.to(like.dtype) if tensor.is_floating_point() else tensor
    tensor = tensor.pin_memory() if like.is_cuda else tensor
    return tensor.to(like.device, non_blocking=True)


@dataclass(frozen=True)
class Images:
    """Weakly augmented crops on the device, without masks."""

    rgb01_B3HW: Tensor
    valid_BHW: Tensor
    index_B: Tensor  # position of each image in its list
    step_valid_MHW: Tensor  # `valid` of all this process's images of the step; the same tensor where it is undivided

    @cached_property
    def pixels(self) -> Tensor:
        """What a sum over this view's valid pixels is divided by: see `per_micro_batch`."""
        return per_micro_batch(self.step_valid_MHW, len(self.valid_BHW))


@dataclass(frozen=True)
class Labeled(Images):
    """The same with masks: int64, 255 where nothing is known."""

    mask_BHW: Tensor
    step_mask_MHW: Tensor

    def mix(self, mix: CutMix, partner: Labeled | None = None) -> Labeled:
        """Masks and padding after CutMix; the images are left as they are."""
        other = partner or self
        valid, step_valid = mix.both(self.valid_BHW, other.valid_BHW, self.step_valid_MHW, other.step_valid_MHW)
        mask, step_mask = mix.both(self.mask_BHW, other.mask_BHW, self.step_mask_MHW, other.step_mask_MHW)
        return replace(self, valid_BHW=valid, step_valid_MHW=step_valid, mask_BHW=mask, step_mask_MHW=step_mask)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of labeled images.

    `labeled_partner`: the images that CutMix pastes into them, where those are not the micro-batch's own (`SemiBatch`).
    """

    labeled: Labeled
    clock: Moment
    labeled_partner: Labeled | None = None


@dataclass(frozen=True, kw_only=True)
class SemiBatch(Batch):
    """As many unlabeled images with them, whose masks are never opened.

    `partner`: for every unlabeled image the one that CutMix pastes, where that is not of this micro-batch: another weak
    draw of the same image (`cutmix_partner="self"`), or its neighbour in the global batch if that is in another part.
    `paired`: for every unlabeled image a weak draw of the labeled image most like it.
    """

    unlabeled: Images
    partner: Images | None = None
    paired: Labeled | None = None


@dataclass(frozen=True)
class CutMix:
    """Where partners are pasted (Yun et al., 2019, arXiv 1905.04899), and who they are.

    mask: bool, True where the partner goes. permutation: the partner of every image, as a place in the micro-batch;
    None where partners are given. step_*: the same of all this process's images of the step.
    """

    mask_BHW: Tensor
    permutation_B: Tensor | None
    step_mask_MHW: Tensor
    step_permutation_M: Tensor | None

    def __call__(self, x: Tensor, partner: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) or maps (B, H, W), mixed with the given partners, or with one another."""
        return _pasted(x, partner, self.mask_BHW, self.permutation_B)

    def both(self, x: Tensor, other: Tensor, step_x: Tensor, step_other: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of the micro-batch, and the same of the whole step; `other`: those that partners are taken from."""
        mixed = self(x, other)
        if step_x is x:
            return mixed, mixed
        return mixed, _pasted(step_x, step_other, self.step_mask_MHW, self.step_permutation_M)


def _pasted(x: Tensor, other: Tensor | None, mask_BHW: Tensor, permutation_B: Tensor | None) -> Tensor:
    other = x if other is None else other
    if permutation_B is not None:
        other = other[permutation_B]
    return torch.where(mask_BHW if x.dim() == 3 else mask_BHW[:, None], other, x)


class StrongView(Protocol):
    """A random view of images in [0, 1] that leaves geometry alone: a strong view, of the run or of one paper.

    draws: how many uniform numbers it takes for every image. What it makes of them on the host is small (`tables`),
    what it does to pixels is done on the device, for all images at once (`apply`).
    """

    draws: int

    def tables(self, u: np.ndarray[Any, np.dtype[np.float64]]) -> Mapping[str, np.ndarray[Any, Any]]:
        """Parameters of every image by name, (B, ...) each, from uniform numbers (B, draws)."""

    def apply(self, rgb01_B3HW: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """The view of the images, in [0, 1]; `tables` as above, on the device."""


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-labels of a view: class, confidence (maximum of the softmax), valid pixels, and the logits behind them.

    pixels: what a sum over its valid pixels is divided by, see `per_micro_batch`.
    """

    label_BHW: Tensor
    conf_BHW: Tensor
    valid_BHW: Tensor
    logits_BKHW: Tensor
    step_valid_MHW: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, logits_BKHW: Tensor, images: Images | Pseudo) -> Pseudo:
        """Of a view of `images`, or of what these pseudo-labels are of."""
        logits = at_least_float32(logits_BKHW.detach())
        conf, label = logits.softmax(1).max(1)
        return cls(label, conf, images.valid_BHW, logits, images.step_valid_MHW)

    @cached_property
    def pixels(self) -> Tensor:
        return per_micro_batch(self.step_valid_MHW, len(self.valid_BHW))

    def mix(self, mix: CutMix, partner: Pseudo | None = None) -> Pseudo:
        """CutMix: class, confidence, validity and logits come from the partner together."""
        other = partner or self
        valid, step_valid = mix.both(self.valid_BHW, other.valid_BHW, self.step_valid_MHW, other.step_valid_MHW)
        label, conf = mix(self.label_BHW, other.label_BHW), mix(self.conf_BHW, other.conf_BHW)
        return Pseudo(label, conf, valid, mix(self.logits_BKHW, other.logits_BKHW), step_valid)


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 is coarser than the thresholds of the papers; float64 is left alone for the tests that need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
