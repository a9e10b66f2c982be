"""Training a head on the maps of a frozen encoder: seconds, where training through the encoder takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.data.order import pick
from semiseg_cli.core.errors import Diverged
from semiseg_cli.core.methods.base import Group
from semiseg_cli.core.models.decoders.heads import Linear
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates

EVERY = 4  # pixels between the places where labels are compared, either way: see RESULTS.md, "A probe"


@dataclass(frozen=True)
class Example:
    """An image as a head sees it. maps: (1, C, h, w), finest first, of any precision. label_hw: see `sampled`."""

    maps: Sequence[Tensor]
    label_hw: Tensor


def sampled(mask_HW: Tensor, seen: tuple[int, int], patches: bool) -> Tensor:
    """The labels that logits are compared with, int64 (h, w): those of every fourth pixel of the image as seen.

    seen: height and width at which the encoder saw the image. patches: as in `Linear`; the places are the middles of
    4 x 4 pixels then, else every fourth pixel from the first, where strided maps have their values.
    """
    mask_11HW = mask_HW[None, None].float()
    if patches:
        size = (max(seen[0] // EVERY, 1), max(seen[1] // EVERY, 1))
        return F.interpolate(mask_11HW, size, mode="nearest-exact")[0, 0].long()
    return F.interpolate(mask_11HW, seen, mode="nearest-exact")[0, 0, ::EVERY, ::EVERY].long()


def fit_head(
    head: Linear,
    examples: Sequence[Example],
    train: TrainConfig,
    weight_K: Tensor | None = None,
    ignore: int = 255,
    advance: Callable[[int], object] = lambda steps: None,
) -> float:
    """Train a head for `train.steps` steps on `train.batch` images each; returns the last step's loss.

    Its norms are set to what these examples are, and then stay. Of `train` count steps, batch, seed, optimiser, rates
    and decay. weight_K: of the classes, as in `cross_entropy`. advance: told the number of steps just done.
    Raises Diverged where a parameter is not finite in the end.
    """
    device = next(head.parameters()).device
    head.standardise([x.to(device) for x in example.maps] for example in examples)
    head.eval()  # which concerns the norms alone
    optimizer = build_optimizer([Group(list(head.parameters()), head=True)], train)
    loss = torch.zeros(())
    for step in range(train.steps):
        set_learning_rates(optimizer, step, train)
        places = [pick(train.seed, "labeled", len(examples), step * train.batch + slot) for slot in range(train.batch)]
        loss = _loss(head, [examples[place] for place in places], weight_K, ignore)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance(1)
    last = loss.item()
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise Diverged(f"the head's loss is {last} after {train.steps} steps")
    return last


def _loss(head: Linear, examples: Sequence[Example], weight_K: Tensor | None, ignore: int) -> Tensor:
    """Mean cross-entropy over the labeled places of some images, weighted by class as torch does."""
    device = next(head.parameters()).device
    total, counted = torch.zeros((), device=device), torch.zeros((), device=device)
    for example in examples:
        label_hw = example.label_hw.to(device)
        _, fused = head.features([x.to(device).float() for x in example.maps])
        logits = head.upsample(head.classifier(fused), (label_hw.shape[0], label_hw.shape[1]))
        total = total + F.cross_entropy(logits, label_hw[None], weight_K, ignore_index=ignore, reduction="sum")
        known = label_hw != ignore
        counted = counted + (known if weight_K is None else weight_K[label_hw.where(known, 0)].where(known, 0.0)).sum()
    return total / counted.clamp(min=1e-12)
