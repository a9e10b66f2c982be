"""The training step of the public UniMatch code (LiheYoung/UniMatch, the CVPR 2023 release) from a checkout of it.

Its network is imported from the checkout; its loop is stated again here, from the fetched batch to the optimiser's
step, and nothing of it is copied. In its favour, DDP, SyncBatchNorm, barriers, its log and its loader, which augments
on the host, are left out, and the batch lies on the device.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES, THRESHOLD, IGNORE = 21, 0.95, 255  # as its configs/pascal.yaml has them
LR, HEAD, MOMENTUM, DECAY = 0.001, 10.0, 0.9, 1e-4


def published_step(
    checkout: Path, *, backbone: str, batch: int, crop: int, bf16: bool, device: torch.device
) -> Callable[[], None]:
    """The step as something to call, on one random batch. Raises FileNotFoundError where the checkout has no network.

    bf16: under bfloat16 autocast and in channels_last, which the public code does not have.
    """
    net = network(checkout, backbone)
    torch.backends.cudnn.benchmark = True  # as it has it
    layout = torch.channels_last if bf16 else torch.contiguous_format
    net = net.to(device, memory_format=layout)
    encoder = {id(p) for p in net.backbone.parameters()}
    rest = [p for p in net.parameters() if id(p) not in encoder]
    groups = [{"params": list(net.backbone.parameters()), "lr": LR}, {"params": rest, "lr": HEAD * LR}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    data = random_batch(batch, crop, device, layout)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = published_loss(net, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def network(checkout: Path, backbone: str) -> Any:
    """The checkout's DeepLabV3+ with random weights: it would load ImageNet's from a file."""
    module = "model.semseg.deeplabv3plus"
    if not (checkout / f"{module.replace('.', '/')}.py").is_file():
        raise FileNotFoundError(f"{checkout} is no checkout of LiheYoung/UniMatch: it has no {module}")
    with _imported_from(checkout):
        resnet, deeplab = importlib.import_module("model.backbone.resnet"), importlib.import_module(module)
        build = getattr(resnet, backbone)
        setattr(resnet, backbone, lambda pretrained, **how: build(pretrained=False, **how))
        strides = [False, False, True]
        config = {"backbone": backbone, "replace_stride_with_dilation": strides, "dilations": [6, 12, 18]}
        return deeplab.DeepLabV3Plus(config | {"nclass": CLASSES})


@contextmanager
def _imported_from(checkout: Path) -> Iterator[None]:
    """Modules called `model` are the checkout's, in the block alone."""
    sys.path.insert(0, str(checkout.resolve()))
    try:
        yield
    finally:
        sys.path.pop(0)
        for name in [name for name in sys.modules if name.split(".")[0] == "model"]:
            del sys.modules[name]


def random_batch(count: int, crop: int, device: torch.device, layout: torch.memory_format) -> dict[str, Tensor]:
    """What its loader brings: images of noise, labels, padding, and CutMix boxes on every second image."""
    rng = torch.Generator().manual_seed(0)
    names = ("labeled", "weak", "strong1", "strong2", "weak_mix", "strong1_mix", "strong2_mix")
    images = {name: torch.randn(count, 3, crop, crop, generator=rng) for name in names}
    label = torch.randint(CLASSES, (count, crop, crop), generator=rng)
    padding = torch.zeros(count, crop, crop, dtype=torch.long)
    padding[:, -crop // 8 :] = IGNORE
    box = torch.zeros(count, crop, crop)
    box[::2, crop // 4 : 3 * crop // 4, crop // 4 : 3 * crop // 4] = 1
    flat = {"label": label, "ignore": padding, "ignore_mix": padding.flip(0), "box1": box, "box2": box.flip(1)}
    moved = {name: image.to(device, memory_format=layout) for name, image in images.items()}
    return moved | {name: tensor.to(device) for name, tensor in flat.items()}


def published_loss(net: nn.Module, data: dict[str, Tensor]) -> Tensor:
    """The loss of a step: L = (L_x + (L_s1 + L_s2) / 4 + L_fp / 2) / 2. Pastes the partners into the strong views.

    Boxes select by boolean index and the normalisers are numbers, as in the public code: the host waits for both.
    """
    with torch.no_grad():
        net.eval()
        conf_mix, hard_mix = _labels(net(data["weak_mix"]))
    for view in ("1", "2"):
        strong, inside = data[f"strong{view}"], (data[f"box{view}"] == 1)[:, None].expand_as(data[f"strong{view}"])
        strong[inside] = data[f"strong{view}_mix"][inside]

    net.train()
    labeled, weak = data["labeled"], data["weak"]
    clean, dropped = net(torch.cat([labeled, weak]), True)
    strong1, strong2 = net(torch.cat([data["strong1"], data["strong2"]])).chunk(2)
    conf, hard = _labels(clean[len(labeled) :].detach())

    supervised = F.cross_entropy(clean[: len(labeled)], data["label"], ignore_index=IGNORE)
    taught = []
    for logits, box in ((strong1, data["box1"]), (strong2, data["box2"])):
        mixed = []
        for own, other in ((hard, hard_mix), (conf, conf_mix), (data["ignore"], data["ignore_mix"])):
            both = own.clone()
            both[box == 1] = other[box == 1]
            mixed.append(both)
        taught.append(_taught(logits, *mixed))
    feature = _taught(dropped[len(labeled) :], hard, conf, data["ignore"])
    loss: Tensor = (supervised + taught[0] / 4 + taught[1] / 4 + feature / 2) / 2
    return loss


def _labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits.softmax(1).max(1)[0], logits.argmax(1)


def _taught(logits: Tensor, hard: Tensor, conf: Tensor, ignore: Tensor) -> Tensor:
    """Cross-entropy of the confident pixels, over all that are not padding."""
    seen = ignore != IGNORE
    loss = F.cross_entropy(logits, hard, reduction="none") * ((conf >= THRESHOLD) & seen)
    return loss.sum() / seen.sum().item()
