"""The inter-pixel loss of IPixMatch (arXiv 2404.18891, eqs. 2 to 5): how a class is spread over an image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from semiseg_cli.core.types import at_least_float32


def inter_pixel_loss(
    teacher_BKHW: Tensor,
    student_BKHW: Tensor,
    region_BHW: Tensor,
    temperature: float = 4.0,
    distance: Literal["kl", "pearson"] = "kl",
) -> Tensor:
    """Distance of the student's distributions over pixels from the teacher's, one per class, from logits.

    region: bool, the pixels that a distribution is over, Omega. Per image the sum over classes is divided by
    K log|Omega| (eq. 2); an image with fewer than two such pixels counts 0 in the mean over images.
    """
    region = region_BHW.flatten(1)
    count = region.sum(1)
    inside = (region | (count < 2)[:, None])[:, None]  # an image that counts 0 still needs a softmax without NaN
    log_p = _log_softmax(teacher_BKHW.detach(), inside, temperature)
    log_q = _log_softmax(student_BKHW, inside, temperature)
    per_class = _kl(log_p, log_q, inside) if distance == "kl" else _pearson(log_p, log_q, inside)
    loss = per_class.mean(1) / count.clamp(min=2).to(per_class.dtype).log()
    return loss.where(count >= 2, 0.0).mean()


def _log_softmax(logits_BKHW: Tensor, inside_B1P: Tensor, temperature: float) -> Tensor:
    """The logarithm of eq. 4 over the pixels inside, (B, K, P); 0 outside."""
    z = at_least_float32(logits_BKHW).flatten(2) / temperature
    return z.masked_fill(~inside_B1P, -torch.inf).log_softmax(2).masked_fill(~inside_B1P, 0.0)


def _kl(log_p: Tensor, log_q: Tensor, inside_B1P: Tensor) -> Tensor:
    """KL(p || q), (B, K)."""
    return (log_p.exp() * (log_p - log_q) * inside_B1P).sum(2)


def _pearson(log_p: Tensor, log_q: Tensor, inside_B1P: Tensor) -> Tensor:
    """1 - the correlation of p and q (eq. 5), (B, K); 1 where one of them is constant.

    It does not depend on their scale, which is taken to be 1 on average, far from where squares underflow.
    """
    count = inside_B1P.sum(2, keepdim=True)
    u, v = ((log.exp() * count - 1) * inside_B1P for log in (log_p, log_q))
    norms = torch.linalg.vector_norm(u, dim=2) * torch.linalg.vector_norm(v, dim=2)
    correlation: Tensor = (u * v).sum(2) / norms.clamp(min=1e-12)
    return 1 - correlation
