"""S4MIM derived once more from the paper's equations: literal heads, loops over pixels, one joint backward."""

from __future__ import annotations

import copy

import torch
from cases import CLOCK, SIDE, SLOTS, Case, pseudo, supervised, unsupervised
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.methods.s4mim.pixel_decoder import PixelDecoder

CLASSES, PATCH, RATIO = 4, 6, 0.4


def double(c: Case) -> Case:
    """The same in float64."""
    c.train.double()
    for images in (c.batch.labeled, c.batch.unlabeled, c.batch.partner):
        if images is not None:
            object.__setattr__(images, "rgb01_B3HW", images.rgb01_B3HW.double())
    c.x_l, c.x_w, c.net = c.normalised(c.labeled), c.normalised(c.unlabeled), copy.deepcopy(c.train.method.net)
    c.views = c.train.views(CLOCK, SLOTS, len(SLOTS), c.batch)
    return c


def small(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest pixels with corners on corners, one by one."""
    out = torch.zeros(len(x), *size, dtype=x.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            out[:, i, j] = x[:, round(i * (SIDE - 1) / (size[0] - 1)), round(j * (SIDE - 1) / (size[1] - 1))]
    return out


def reconstruction(pid: PixelDecoder, fea: Tensor, group: Tensor, basic: bool) -> Tensor:
    """Equations 6 and 7 as printed, or basic MIM with all the heads."""
    group, r = small(group, (fea.shape[2], fea.shape[3])), torch.zeros(())
    for c in range(CLASSES):
        fea_c = fea if basic else fea * (group == c)[:, None]
        r = r + F.conv2d(fea_c, pid.heads.weight[3 * c : 3 * c + 3], padding=1)
    return F.interpolate(r, (SIDE, SIDE), mode="bilinear", align_corners=True)


def merged(both: Tensor, strong: Tensor) -> Tensor:
    """Labeled, strong and perturbed, of labeled with perturbed and strong."""
    return torch.cat([both[:3], strong, both[3:]])


def masked_mean(value: Tensor, valid: Tensor) -> Tensor:
    return (value * valid).sum() / valid.sum()


def reference(c: Case, net: nn.Module, pid: PixelDecoder, **settings: object) -> dict[str, Tensor]:
    """Equation 14 term by term."""
    partner = None
    if c.second is not None:
        other = copy.deepcopy(net).eval()
        with torch.no_grad():
            partner = pseudo(other(c.normalised(c.second)), c.second.valid_BHW)
    maps = net.encode(torch.cat([c.x_l, c.x_w]))
    drops = c.views.channels("fp", [m[3:] for m in maps])
    perturbed = [torch.cat([m[:3], m[3:] * d]) for m, d in zip(maps, drops, strict=True)]
    if settings.get("exact_bn"):
        of_labeled = c.views.channels("fp/labeled", maps)
        four = [torch.cat([m, m[:3] * d, p[3:]]) for m, d, p in zip(maps, of_labeled, perturbed, strict=True)]
        p_l, p_w, _, p_fp = net.decode(four, (SIDE, SIDE)).logits_BKHW.split(3)
    else:
        with torch.no_grad():
            p_w = copy.deepcopy(net).decode([m[3:] for m in maps], (SIDE, SIDE)).logits_BKHW
        p_l, p_fp = net.decode(perturbed, (SIDE, SIDE)).logits_BKHW.split(3)
    weak = pseudo(p_w, c.unlabeled.valid_BHW)
    x_s, label_s, conf_s, valid_s = c.mixed("s1", weak, partner)
    p_s = net(x_s)
    valid_w = c.unlabeled.valid_BHW

    mask = c.views.patches("mim", PATCH, RATIO)
    streams = [
        (c.x_l, p_l, p_l.argmax(1), c.labeled.valid_BHW, c.labeled.valid_BHW & (c.labeled.mask_BHW != 255)),
        (x_s, p_s, label_s, valid_s, valid_s),
        (c.x_w, p_fp, weak[0], valid_w, valid_w),
    ]
    if not settings.get("masked_statistics"):
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 0.0
    m_l, m_s, m_w = (x * ~mask[:, None] for x, *_ in streams)
    maps, maps_s = net.encode(torch.cat([m_l, m_w])), net.encode(m_s)  # in the batches of phase I
    maps = [torch.cat([m[:3], m[3:] * d]) for m, d in zip(maps, drops, strict=True)]
    with torch.no_grad():
        other = copy.deepcopy(pid)
        alone = [m[3:] for m in perturbed]
        x_fp = reconstruction(other, other(alone), weak[0], settings.get("mim") == "basic")
    if settings.get("fp_target") == "image":
        x_fp = c.x_w
    p_m = merged(*(net.decode(each, (SIDE, SIDE)).logits_BKHW for each in (maps, maps_s)))
    maps_l, maps_fp = [m[:3] for m in maps], [m[3:] for m in maps]
    of_images = pid([torch.cat(both) for both in zip(maps_l, maps_s, strict=True)])
    basic = settings.get("mim") == "basic"
    r_images = reconstruction(pid, of_images, torch.cat([s[2] for s in streams[:2]]), basic)
    pid.requires_grad_(settings.get("fp_target") == "image")  # else nothing would hold the scale of r and x_fp
    fea_fp = pid(maps_fp)
    r = torch.cat([r_images, reconstruction(pid, fea_fp, weak[0], basic)])
    fea = torch.cat([of_images, fea_fp])
    pid.requires_grad_(True)

    mimpi = mimse = torch.zeros(())
    for i, (target, (_, p, _, valid, _)) in enumerate(zip((c.x_l, x_s, x_fp), streams, strict=True)):
        part = slice(3 * i, 3 * i + 3)
        mimpi = mimpi + masked_mean((r[part] - target).square().mean(1), valid)
        if settings.get("semantic") == "mse":
            error = (p_m[part].softmax(1) - p.detach().softmax(1)).square().mean(1)
        else:
            error = F.cross_entropy(p_m[part], p.argmax(1), reduction="none")
        mimse = mimse + masked_mean(error, valid)
    mimfea = aggregation(fea, mask, streams, settings)
    divisor = 1 + 2 * 0.5 + 3 / 3 + 3 * 0.05 + 3 * 0.1 / 3
    return {
        "labeled": supervised(c, p_l) / divisor,
        "strong": 0.5 * unsupervised(c, p_s, label_s, conf_s, valid_s) / divisor,
        "feature": 0.5 * unsupervised(c, p_fp, *weak) / divisor,
        "pixel": mimpi / 3 / divisor,
        "aggregation": 0.05 * mimfea / divisor,
        "semantic": 0.1 / 3 * mimse / divisor,
    }


def aggregation(fea: Tensor, mask: Tensor, streams: list[tuple[Tensor, ...]], settings: dict[str, object]) -> Tensor:
    """Equations 9 to 12, class by class and vector by vector, with the dictionary at its first update."""
    size = (fea.shape[2], fea.shape[3])
    hidden = small(mask, size)
    per_class = []
    for k in range(CLASSES):
        visible, anchors = [], []
        for i, (_, p, group, _, known) in enumerate(streams):
            conf = small(p.detach().softmax(1).amax(1), size)
            if settings.get("confidence") is False:
                conf = torch.ones_like(conf)
            where = small(known, size) & (small(group, size) == k)
            for b, y, x in torch.nonzero(where).tolist():
                z = fea[3 * i + b, :, y, x]
                if hidden[b, y, x]:
                    anchors.append((conf[b, y, x], z))
                elif i == 0:
                    visible.append((conf[b, y, x], z.detach()))
        if visible and anchors:
            v = sum(w * z for w, z in visible) / sum(w for w, _ in visible)
            v = v if settings.get("dictionary") is False else 0.01 * v  # 0.99 * 0 + 0.01 v
            total = sum(w for w, _ in anchors)
            per_class.append(sum(w * (1 - F.cosine_similarity(z, v, 0)) / 10 for w, z in anchors) / total)
    assert len(per_class) >= 2
    return sum(per_class) / len(per_class)
