"""Pixel losses. Logits are taken to float32 at least; nothing here waits for the device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.ops.processes import per_micro_batch
from semiseg_cli.core.ops.register import enlarge
from semiseg_cli.core.types import Pseudo, at_least_float32


def cross_entropy(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weight_K: Tensor | None = None,
    ignore: int = 255,
    step_mask_MHW: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over labeled pixels, weighted by class as torch does; 0 when every pixel is ignored.

    step_mask: masks of all micro-batches of the step, where the mean is over more than this one (`per_micro_batch`).
    """
    each = F.cross_entropy(at_least_float32(logits_BKHW), mask_BHW, weight_K, ignore_index=ignore, reduction="none")
    loss = each.sum()  # CUDA's own sum does not repeat exactly
    mask_MHW = mask_BHW if step_mask_MHW is None else step_mask_MHW
    labeled = mask_MHW != ignore
    counted = labeled if weight_K is None else weight_K[mask_MHW.where(labeled, 0)].where(labeled, 0.0)
    return loss / per_micro_batch(counted, len(mask_BHW))


def ohem(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weight_K: Tensor | None = None,
    *,
    threshold: float = 0.7,
    min_kept: int,
    ignore: int = 255,
) -> Tensor:
    """Cross-entropy of hard pixels (online hard example mining, as the field trains Cityscapes).

    A pixel is kept when the probability of its true class is at most max(threshold, the min_kept-th smallest such
    probability); with fewer labeled pixels than min_kept all are kept. Their mean is weighted by class as torch does; 0
    when every pixel is ignored.
    """
    loss = F.cross_entropy(at_least_float32(logits_BKHW), mask_BHW, ignore_index=ignore, reduction="none")
    labeled = mask_BHW != ignore
    probability = torch.exp(-loss.detach()).where(labeled, torch.inf)
    least = probability.flatten().topk(min(max(min_kept, 1), probability.numel()), largest=False, sorted=False)
    kth = least.values.max()  # `kthvalue` is refused where only deterministic operations are allowed
    kept = labeled & (probability <= kth.clamp(min=threshold))
    if weight_K is None:
        return loss.where(kept, 0.0).sum() / kept.sum().clamp(min=1)
    weight = weight_K[mask_BHW.where(labeled, 0)].where(kept, 0.0)
    return (loss.where(kept, 0.0) * weight).sum() / weight.sum().clamp(min=1e-12)


def ohem_min_kept(crops: int, height: int, width: int) -> int:
    """200,000 pixels for two crops of 801 (UniMatch), scaled with the area of the batch."""
    return int(200_000 * crops * height * width / (2 * 801 * 801))


def at_least(pseudo: Pseudo, tau: float) -> Tensor:
    """[conf >= tau] (FixMatch, eq. 4) as a weight of every pixel, (B, H, W); 0 on padding."""
    return ((pseudo.conf_BHW >= tau) & pseudo.valid_BHW).to(pseudo.conf_BHW.dtype)


def more_than(pseudo: Pseudo, tau: float) -> Tensor:
    """[conf > tau], strictly (MaskMatch, eq. 3), as a weight of every pixel, (B, H, W); 0 on padding."""
    return ((pseudo.conf_BHW > tau) & pseudo.valid_BHW).to(pseudo.conf_BHW.dtype)


def by_confidence(pseudo: Pseudo) -> Tensor:
    """The confidence as a weight of every pixel, (B, H, W); 0 on padding."""
    return pseudo.conf_BHW * pseudo.valid_BHW


def pseudo_label_loss(
    logits_BKHW: Tensor, pseudo: Pseudo, weights_BHW: Tensor, normaliser: Literal["valid", "image"] = "valid"
) -> Tensor:
    """Cross-entropy with the pseudo-labels, weighted by pixel; 0, not NaN, where no pixel is valid or kept.

    normaliser: "valid", the sum divided by the count of valid pixels of the global batch (UniMatch); "image", each
    image's sum divided by its own sum of weights, then the mean over images (MaskMatch).
    """
    loss = F.cross_entropy(at_least_float32(logits_BKHW), pseudo.label_BHW, reduction="none") * weights_BHW
    if normaliser == "valid":
        return loss.sum() / pseudo.pixels
    return (loss.sum((1, 2)) / weights_BHW.sum((1, 2)).clamp(min=1e-6)).mean()


def reconstruction_loss(rgb_B3hw: Tensor, image_B3HW: Tensor, valid_BHW: Tensor, pixels: Tensor) -> Tensor:
    """Mean squared difference to the image over channels and valid pixels; a coarser map is enlarged bilinearly.

    pixels: what the sum over pixels is divided by.
    """
    size = (image_B3HW.shape[2], image_B3HW.shape[3])
    rgb = enlarge(at_least_float32(rgb_B3hw), size)
    error = (rgb - image_B3HW).square().mean(1) * valid_BHW
    return error.sum() / pixels


def pseudo_stats(pseudo: Pseudo, weights_BHW: Tensor) -> dict[str, Tensor]:
    """What to watch: the share of valid pixels kept, those of the classes among them (K,), and the largest of these."""
    classes = pseudo.logits_BKHW.shape[1]
    kept = (weights_BHW > 0).flatten().long()
    count = torch.zeros(classes, dtype=torch.long, device=kept.device)
    count.scatter_add_(0, pseudo.label_BHW.flatten(), kept)
    total = count.sum()
    shares = count / total.clamp(min=1)
    return {"kept": total / pseudo.valid_BHW.sum().clamp(min=1), "largest_class": shares.max(), "kept_classes": shares}
