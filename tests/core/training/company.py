"""What two processes do in test_distributed.py beside the loop: sums over both, and S4MIM, whose passes differ."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.methods.s4mim.method import S4MIM
from semiseg_cli.core.methods.s4mim.prototypes import aggregation_loss, class_means
from semiseg_cli.core.ops.processes import gathered, summed
from semiseg_cli.core.training.distributed import World, average_gradients
from semiseg_cli.core.training.step import Builder, Train
from semiseg_cli.core.types import Clock

IMAGES, CLASSES, CHANNELS, STEPS, SIDE = 4, 3, 5, 4, 33


def sums(rank: int) -> dict[str, Tensor]:
    x = torch.full((2,), 1.0 + rank, requires_grad=True)
    summed(x).square().sum().backward()
    assert x.grad is not None
    return {"sum": summed(x.detach()), "slope": x.grad, "joined": gathered(x.detach(), 0)}


def aggregated(part: slice) -> dict[str, Tensor]:
    """Means of some of four images, the loss of pulling their features there, and what a layer before it learns."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, CHANNELS, 4, 4, generator=rng)[part]
    w = torch.rand(IMAGES, CLASSES, 4, 4, generator=rng) * (torch.arange(IMAGES) != 1)[:, None, None, None]
    w[:2, 2] = 0  # the first process has nothing of class 2
    layer = torch.eye(CHANNELS, requires_grad=True)
    features = torch.einsum("bdhw,ed->behw", x, layer)
    means, seen = class_means(features, w[part])
    loss = aggregation_loss(features, w[part], means + 0.5, 10.0)
    loss.backward()
    assert layer.grad is not None
    return {"means": means, "seen": seen, "loss": loss.detach(), "gradient": layer.grad}


def s4mim(world: World) -> dict[str, Tensor]:
    """A few steps: a warm-up without the pixel decoder, then two passes without the semantic decoder in the second."""
    spec = {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16}
    settings = S4MIM.Settings(warmup=0.3, tau=0.0, lambda_ms=0.0)
    train = Train(S4MIM(settings, Builder(spec, CLASSES)), seed=0, mean=(0.5,) * 3, std=(0.2,) * 3).train()
    for step in range(STEPS):
        rng = np.random.default_rng([step, world.rank])
        host = {
            f"{name}_{key}": torch.from_numpy(rng.integers(0, high, (2, SIDE, SIDE, *more), dtype=np.uint8))
            for name in ("labeled", "unlabeled")
            for key, high, more in (("image", 255, (3,)), ("mask", CLASSES, ()), ("valid", 2, ()))
        }
        host |= {f"{name}_index": torch.arange(2) for name in ("labeled", "unlabeled")}
        slots = np.arange(2 * world.rank, 2 * world.rank + 2)
        for out in train(host, Clock(step, STEPS), slots, 2 * world.size):
            torch.stack(list(out.losses.values())).sum().backward()
        average_gradients(list(train.parameters()), world)
        with torch.no_grad():
            for p in train.parameters():
                if p.grad is not None:
                    p -= 0.01 * p.grad
                    p.grad = None
    found = {name: p.detach() for name, p in train.named_parameters()}
    return found | {"prototypes": train.method.prototypes_KD}
