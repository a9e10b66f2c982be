"""The losses of steps of every method, in float64 on one thread, against values that were stored earlier.

A change that moves them is said so in the CHANGELOG, and the new values are written by

    pytest tests/golden --update-golden

A CPU takes the first ten steps of the twenty: every term acts by then, and STPG has matched its classes twice. A GPU
takes all of them (`pytest -m gpu tests/golden`), and so does `--update-golden`.

float64 because pseudo-labels amplify rounding: in float32 the losses drift by a third within 20 steps between one and
two threads. Network, views and losses are all float64 here (only the host's images are 8-bit, as ever), which leaves
rtol 1e-6 wide room between machines, a GPU among them. Batches and first weights come from numpy's generator, not from
files: PyTorch's normal numbers differ in the last digit between instruction sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_small import TINY
from steps import fed, whole_step
from torch import Tensor, nn

from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock

STEPS, SEEN, SIDE, COUNT = 20, 10, 33, 3  # SEEN: steps that a CPU takes
CONFIG = TrainConfig(steps=STEPS, batch=COUNT, lr=0.02, head_lr_multiplier=2.0)

# tau lies among the confidences that the network reaches here, so that the threshold decides
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "supervised-strong": ("supervised", {"strong": True}),
    "fixmatch": ("fixmatch", {"tau": 0.45, "warmup": 0.1}),
    "fixmatch-exact": ("fixmatch", {"tau": 0.45, "exact_bn": True, "cutmix_partner": "self"}),
    "fixmatch-ema": ("fixmatch", {"tau": 0.45, "ema_teacher": True}),
    "meanteacher": ("meanteacher", {"tau": 0.45}),
    "meanteacher-confidence": ("meanteacher", {"pixel_weight": "confidence", "normaliser": "image", "lambda_u": 0.5}),
    "unimatch": ("unimatch", {"tau": 0.45}),
    "unimatch-ema": ("unimatch", {"tau": 0.45, "ema_teacher": True, "alpha": 0.9}),
    "unimatchv2": ("unimatchv2", {"tau": 0.45}),
    "unimatchv2-ablated": (
        "unimatchv2",
        {"tau": 0.45, "ema_teacher": False, "dropout": "independent", "lambda_u": 2.0},
    ),
    "ipixmatch": ("ipixmatch", {"tau": 0.45, "region_tau": 0.4, "ramp": 0.3}),
    "ipixmatch-ema": (
        "ipixmatch",
        {"tau": 0.45, "region_tau": 0.4, "ramp": 0.0, "distance": "pearson", "ema_teacher": True},
    ),
    "maskmatch": ("maskmatch", {"tau": 0.5, "patch": 8, "scales": (1.0, 1.5)}),
    "maskmatch-reconstruction": (
        "maskmatch",
        {"tau": 0.5, "patch": 8, "scales": (1.0,), "masked_task": "reconstruction", "hidden": "block"},
    ),
    "stpg": (
        "stpg",
        {"phi": 0.4, "memory_size": 24, "memory_topk": 5, "pixels_per_class": 4, "embedding": 16, "match_after": 5},
    ),
    "stpg-single": ("stpg", {"modules": "single", "memory_size": 0, "colour": True}),
    "s4mim": ("s4mim", {"tau": 0.45, "warmup": 0.1}),
    "s4mim-basic": (
        "s4mim",
        {
            "tau": 0.45,
            "mim": "basic",
            "semantic": "mse",
            "dictionary": False,
            "confidence": False,
            "patch": 4,
            "fp_target": "image",
            "backward": "joint",
        },
    ),
    "guidedmix": ("guidedmix", {}),
    "guidedmix-random": ("guidedmix", {"pairing": "random", "cap": 0.3, "decoupling": "hard"}),
    "guidedmix-precomputed": ("guidedmix", {"pairing": "precomputed", "space": "logit", "omega": 1.0}),
    "unimatch-exact": ("unimatch", {"tau": 0.45, "exact_bn": True, "cutmix_partner": "self"}),
}
# a method that has no case of its own has one as it comes
CASES |= {name: (name, {}) for name in METHODS if name not in {method for method, _ in CASES.values()}}


def portable_weights() -> Callable[[nn.Module], None]:
    """For every fresh network: the weights of its convolutions anew (He et al.), other ones for the next network."""
    rng = np.random.default_rng(0)

    def prepare(net: nn.Module) -> None:
        with torch.no_grad():
            for p in net.parameters():
                if p.dim() == 4:
                    p.copy_(torch.from_numpy(rng.normal(0, np.sqrt(2 / p[0].numel()), p.shape)))

    return prepare


def losses(
    train: Train, batches: Callable[..., dict[str, Tensor]], steps: int = STEPS, device: str = "cpu"
) -> list[dict[str, float]]:
    """Weighted losses and stats of each of the first steps."""
    train.double().to(device)
    optimizer = build_optimizer(train.method.groups(), CONFIG)
    rows = []
    for step in range(steps):
        clock = Clock(step, STEPS)
        set_learning_rates(optimizer, step, CONFIG)
        torch.manual_seed(step)
        out = whole_step(train, fed(train, batches(step, count=COUNT, side=SIDE)), clock)
        assert all(value.dtype == torch.float64 for value in out.losses.values())
        row = numbers({**out.losses, **out.stats})
        optimizer.step()
        optimizer.zero_grad()
        train.method.after_step(clock)
        train.method.settle(clock)
        rows.append(row)
    return rows


def numbers(values: dict[str, Tensor]) -> dict[str, float]:
    """By name; the entries of a vector as name/0, name/1 ..."""
    vectors = {f"{name}/{k}": x.item() for name, value in values.items() if value.dim() for k, x in enumerate(value)}
    return {name: value.item() for name, value in values.items() if not value.dim()} | vectors


def stored_in(case: str) -> Path:
    return Path(__file__).parent / f"{case}.json"


def compare(found: list[dict[str, float]], case: str, steps: int = STEPS) -> None:
    stored = json.loads(stored_in(case).read_text(encoding="utf-8"))
    assert (len(found), len(stored)) == (steps, STEPS)
    for step, (new, old) in enumerate(zip(found, stored[:steps], strict=True)):
        assert new == pytest.approx(old, rel=1e-6, abs=1e-9), f"step {step}"


@pytest.mark.parametrize("case", CASES)
def test_losses_are_as_before(
    case: str,
    train_module: Callable[..., Train],
    host_batch: Callable[..., dict[str, Tensor]],
    request: pytest.FixtureRequest,
) -> None:
    name, settings = CASES[case]
    update = request.config.getoption("--update-golden")
    steps = STEPS if update else SEEN
    found = losses(train_module(name, prepare=portable_weights(), spec=TINY, **settings), host_batch, steps)
    if update:
        text = "[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n"
        stored_in(case).write_text(text, encoding="utf-8")
    compare(found, case, steps)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_gives_the_same_losses(
    case: str,
    train_module: Callable[..., Train],
    host_batch: Callable[..., dict[str, Tensor]],
) -> None:
    name, settings = CASES[case]
    found = losses(train_module(name, prepare=portable_weights(), spec=TINY, **settings), host_batch, device="cuda")
    compare(found, case)


def test_every_method_has_golden_values() -> None:
    assert {name for name, _ in CASES.values()} == set(METHODS)
    assert {path.stem for path in Path(__file__).parent.glob("*.json")} == set(CASES)
