"""Optimisers and the learning rate of every step."""

from __future__ import annotations

import torch

from semiseg_cli.core.methods.base import Group
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.optimizers import SGD, AdamW

POWER = 0.9  # of the polynomial decay, in every paper here


def build_optimizer(groups: list[Group], train: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW, fused (three operators a step instead of thousands), one group per `Group`."""
    params = [
        {
            "params": list(group.params),
            "base_lr": train.lr * group.lr_mult * (train.head_lr_multiplier if group.head else 1.0),
            "schedule": group.schedule,
        }
        for group in groups
        if len(group.params)
    ]
    if train.optimizer == "adamw":
        return AdamW(params, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return SGD(
        params, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay, fused=True
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, train: TrainConfig) -> float:
    """lr = base * (1 - step/steps) ** 0.9, or constant, after a linear warm-up. Returns the first group's rate."""
    rise = min((step + 1) / train.warmup_steps, 1.0) if train.warmup_steps else 1.0
    poly = (1 - step / train.steps) ** POWER
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * rise * (poly if group["schedule"] == "poly" else 1.0)
    return float(optimizer.param_groups[0]["lr"])
