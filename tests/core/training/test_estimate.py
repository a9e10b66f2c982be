"""The cost of a step from a smaller one, against the step itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.training import estimate as module
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.estimate import Alive, estimate, is_large
from semiseg_cli.core.training.measure import measure, stepper
from semiseg_cli.core.training.session import Session
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import open_config

Open = Callable[..., Session]


@pytest.fixture
def opened(configured: Callable[..., Resolved], shapes_root: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setattr(module, "SIDE", 32)
    changes = {"train.crop": 97, "train.batch": 4}
    return lambda **more: open_config(configured("stpg", changes | more).config, shapes_root, World(), Silent())


def test_arithmetic_grows_with_the_pixels(opened: Open) -> None:
    steps: list[None] = []
    found = estimate(opened(), lambda: steps.append(None))
    assert len(steps) == 2
    assert found["gflop_per_step"] == pytest.approx(measure(opened(), 1)["gflop_per_step"], rel=0.15)
    assert found["estimated_from"] == {"images": 2, "crop": 33}
    assert found["step_ms"] > 0
    assert found["estimated_hours"] == pytest.approx(found["step_ms"] * 5 / 3.6e6)
    parts = estimate(opened(**{"train.micro_batch": 2}))
    assert parts["gflop_per_step"] == pytest.approx(found["gflop_per_step"], rel=0.01)


def test_memory_is_that_of_activations_and_of_what_does_not_grow(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "resident_memory", lambda: 0)
    monkeypatch.setattr(module, "free_memory", lambda: 10**9)
    found, session = estimate(opened()), opened()
    peak, learned = 0, [p for p in session.train.parameters() if p.requires_grad]

    def lap(part: str) -> None:
        nonlocal peak
        gradients = sum(p.grad.nbytes for p in learned if p.grad is not None)
        peak = max(peak, alive.now - gradients) if part == "forward" else peak

    with Alive() as alive:
        stepper(session, session.plan)(lap)
    gradients = momenta = sum(p.nbytes for p in learned)
    assert found["peak_memory_bytes"] - gradients - momenta == pytest.approx(module.SLACK * peak, rel=0.2)
    assert 0.7 * peak < found["least_memory_bytes"] - momenta < peak  # gradients come when activations go
    assert found["memory_bytes_there"] == 10**9
    assert found["micro_batch"] == 4


def test_the_largest_micro_batch_that_fits(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "resident_memory", lambda: 0)
    whole = estimate(opened())["peak_memory_bytes"]
    for free, fits in ((whole * 0.99, 2), (10, None)):
        monkeypatch.setattr(module, "free_memory", lambda free=free: int(free))
        assert estimate(opened())["micro_batch"] == fits


def test_what_is_large(configured: Callable[..., Resolved]) -> None:
    for batch, crop, large in ((8, 321, True), (16, 513, True), (4, 113, False), (2, 513, True), (8, 161, False)):
        assert is_large(configured(changes={"train.batch": batch, "train.crop": crop}).config.train) == large


def test_bytes_of_the_tensors_alive() -> None:
    with Alive() as alive:
        a = torch.ones(1000)
        view = a[:10]
        assert alive.now == 4000
        b = view * 2.0
        assert alive.now == 4040
        del a
        assert alive.now == 4040  # the view holds it
        del view
        assert alive.now == 40
        del b
    assert alive.now == 0
