"""Two ways through a network for labeled, weak and perturbed weak images, as in UniMatch (arXiv 2208.09910).

The perturbation (UniPerb) drops channels of the encoder's maps. Shapes: B images of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from semiseg_cli.core.networks import Net
from semiseg_cli.core.ops.batchnorm import evaluating, frozen_statistics
from semiseg_cli.core.ops.maps import cat_maps, drop_channels
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.types import Images, Pseudo


class Channels(Protocol):
    """Dropout factors for maps, by key: `Views.channels`."""

    def __call__(self, key: str, maps: Sequence[Tensor]) -> list[Tensor]: ...


@dataclass(frozen=True)
class WeakPass:
    """Logits of labeled, weak and perturbed weak images.

    maps: what was decoded with a gradient: those of the labeled images first, of the perturbed weak ones last.
    """

    logits_l: Tensor
    logits_w: Tensor
    logits_fp: Tensor
    maps: list[Tensor]


def lean_pass(net: Net, x_l: Tensor, x_w: Tensor, channels: Channels, logits_w: Tensor | None = None) -> WeakPass:
    """One encoder pass; weak logits without gradient, from a decoder whose running statistics stay as they are.

    logits_w: of the weak images, where a teacher has them.
    """
    size, count = (x_l.shape[2], x_l.shape[3]), len(x_l)
    maps = net.encode(torch.cat([x_l, x_w]))
    maps_l, maps_w = [m[:count] for m in maps], [m[count:] for m in maps]
    if logits_w is None:
        with torch.no_grad(), frozen_statistics(net.decoder):
            logits_w = net.decode(maps_w, size).logits_BKHW
    decoded = cat_maps(maps_l, drop_channels(maps_w, channels("fp", maps_w)))
    logits_l, logits_fp = net.decode(decoded, size).logits_BKHW.split([count, len(x_w)])
    return WeakPass(logits_l, logits_w, logits_fp, decoded)


def joint_pass(net: Net, x_l: Tensor, x_w: Tensor, channels: Channels, logits_w: Tensor | None = None) -> WeakPass:
    """The authors' pass: clean and perturbed maps of labeled and weak images are decoded as one batch."""
    count = len(x_l)
    maps = net.encode(torch.cat([x_l, x_w]))
    halves = [channels(key, maps) for key in ("fp/labeled", "fp")]
    factors = [torch.cat([a, b]) for a, b in zip(*halves, strict=True)]
    decoded = cat_maps(maps, drop_channels(maps, factors))
    clean, dropped = net.decode(decoded, (x_l.shape[2], x_l.shape[3])).logits_BKHW.chunk(2)
    return WeakPass(clean[:count], clean[count:] if logits_w is None else logits_w, dropped[count:], decoded)


@torch.no_grad()
def partner_labels(
    net: Net, weak: Callable[[Images], Tensor], others: Images | None, second: bool, teacher: Teacher[Net] | None = None
) -> Pseudo | None:
    """Pseudo-labels of partners that are not of the micro-batch: a teacher's, or the student's own; None for none.

    weak: `Views.weak`. second: the partners are second views, which the student labels in eval mode, as the authors do.
    """
    if others is None:
        return None
    x_B3HW = weak(others)
    if teacher is not None:
        return Pseudo.of(teacher(x_B3HW), others)
    with evaluating(net) if second else frozen_statistics(net):
        return Pseudo.of(net(x_B3HW), others)
