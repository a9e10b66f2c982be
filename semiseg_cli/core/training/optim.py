"""Optimisers and the learning rate of every step."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg_cli.core.methods.base import Group
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.optimizers import SGD, AdamW, at_rest

POWER = 0.9  # of the polynomial decay, in every paper here


def build_optimizer(groups: list[Group], train: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW, fused (three operators a step instead of thousands), one group per `Group`.

    A learning rate is a tensor that `set_learning_rates` fills, so that a captured step has the rate of its time.
    """
    params = []
    for group in groups:
        if len(group.params):
            base = train.lr * group.lr_mult * (train.head_lr_multiplier if group.head else 1.0)
            rate = _rate(base, group.params[0].device)
            params += [{"params": list(group.params), "lr": rate, "base_lr": base, "schedule": group.schedule}]
    if train.optimizer == "adamw":
        return AdamW(params, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    sgd = SGD(
        params, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay, fused=True
    )
    at_rest(sgd)
    return sgd


def _rate(base: float, device: torch.device) -> Tensor:
    """Where a learning rate lies. CUDA's fused optimisers read a float32, which a CPU's would round the rate to."""
    return torch.tensor(base, device=device, dtype=torch.float32 if device.type == "cuda" else torch.float64)


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, train: TrainConfig) -> float:
    """lr = base * (1 - step/steps) ** 0.9, or constant, after a linear warm-up. Returns the first group's rate."""
    rise = min((step + 1) / train.warmup_steps, 1.0) if train.warmup_steps else 1.0
    poly = (1 - step / train.steps) ** POWER
    rates = [
        group["base_lr"] * rise * (poly if group["schedule"] == "poly" else 1.0) for group in optimizer.param_groups
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"].fill_(rate)
    return float(rates[0])
