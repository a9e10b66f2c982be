"""Timing on CUDA: by events, which no step waits for."""

from __future__ import annotations

import time

import pytest
import torch

from semiseg_cli.core.training.measure import step_times

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_steps_are_timed_without_waiting() -> None:
    called: list[float] = []

    def step() -> None:
        called.append(time.perf_counter())
        torch.cuda._sleep(10**8)  # cycles: about 50 ms

    step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    times = step_times(step, 5, torch.device("cuda"))
    took = 1000 * (time.perf_counter() - began)
    assert sum(times) == pytest.approx(took, rel=0.2)
    assert 1000 * (called[-1] - began) < 0.5 * min(times)  # the last was begun before the first had ended
