"""What a step costs: the arithmetic against closed forms, the parts against a clock that is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_small import IS_TINY
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training import measure as module
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.measure import PARTS, Laps, cost_of, flop_counter, measure, peak_memory, spread
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import open_config


def flops(net: nn.Module, x: torch.Tensor, counter: FlopCounterMode | None = None) -> int:
    with counter or flop_counter() as counted:
        net(x).sum().backward()
    return int(counted.get_total_flops())


@pytest.mark.parametrize("groups", [1, 4, 32])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 3])
def test_a_convolution_costs_three_times_its_forward_pass(groups: int, stride: int, dilation: int) -> None:
    net = nn.Conv2d(32, 64, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False)
    x = torch.randn(2, 32, 16, 16, requires_grad=True)
    places = (16 // stride) ** 2
    forward = 2 * 2 * 64 * places * 9 * (32 // groups)  # multiply and add, images, filters, places, kernel, channels
    assert flops(net, x) == 3 * forward


def test_the_image_needs_no_gradient() -> None:
    net = nn.Conv2d(3, 8, 3, padding=1)
    forward = 2 * 8 * 25 * 9 * 3
    assert flops(net, torch.randn(1, 3, 5, 5)) == 2 * forward


@pytest.mark.parametrize("groups", [1, 8])
def test_a_transposed_convolution_counts_the_places_of_its_input(groups: int) -> None:
    net = nn.ConvTranspose2d(8, 16, 2, stride=2, groups=groups, bias=False)
    x = torch.randn(3, 8, 6, 6, requires_grad=True)
    assert flops(net, x) == 3 * 2 * 3 * 36 * 8 * (16 // groups) * 4


def test_pytorchs_own_counter_is_still_wrong_where_ours_is_needed() -> None:
    """When this fails, PyTorch counts groups, and `flop_counter` can go."""
    net, x = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), torch.randn(1, 32, 8, 8, requires_grad=True)
    assert flops(net, x, FlopCounterMode(display=False)) > 10 * flops(net, x)


def test_a_whole_network_is_the_sum_of_its_convolutions() -> None:
    net, each = build_segmenter("mobilenet_v2", "deeplabv3plus", 5), list[int]()
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(lambda m, _, out: each.append(2 * out.numel() * m.weight[0].numel()))
    assert flops(net, torch.randn(2, 3, 64, 64)) == 3 * sum(each) - each[0]


def test_laps_add_up_within_a_step_and_spread_over_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(module, "_now", lambda device: next(ticks) ** 2 / 1000)  # laps of 1, 3, 5, 7, ... ms
    laps = Laps(torch.device("cpu"))
    for _ in range(2):
        laps.start()
        for part in ("data", "forward", "backward", "data", "optimiser", "after_step"):
            laps(part)
    first, second = laps.steps
    assert list(first) == list(PARTS)
    assert first == pytest.approx({"data": 1 + 7, "forward": 3, "backward": 5, "optimiser": 9, "after_step": 11})
    assert sum(second.values()) == pytest.approx(13**2 - 7**2)
    assert laps.parts()["forward"] == pytest.approx({"median": 10, "min": 3, "max": 17})


def test_spread_is_median_and_ends() -> None:
    assert spread([3.0, 1.0, 10.0]) == {"median": 3.0, "min": 1.0, "max": 10.0}


def test_measuring_a_run(shapes_root: Path, configured: Callable[..., Resolved]) -> None:
    config = configured("meanteacher", IS_TINY | {"method.warmup": 0.5}).config
    session = open_config(config, shapes_root, World(), Silent())
    found = measure(session, 2, parts=True)
    assert list(found["parts"]) == list(PARTS)
    assert all(0 < part["min"] <= part["median"] <= part["max"] for part in found["parts"].values())
    assert found["images_per_second"] == pytest.approx(1000 * 4 / found["step_ms"])
    assert found["step"]["min"] <= found["step_ms"] <= found["step"]["max"]
    assert found["estimated_hours"] == pytest.approx(found["step_ms"] * 5 / 3.6e6)
    assert 2**27 < found["peak_memory_bytes"] < 2**36
    assert found["peak_memory_bytes"] <= peak_memory(torch.device("cpu"))
    assert (found["labeled"], found["unlabeled"]) == (6, 8)
    session = open_config(config, shapes_root, World(), Silent())
    plain = measure(session, 1)
    assert plain["gflop_per_step"] == found["gflop_per_step"] > 0.01
    assert "parts" not in plain
    alone = open_config(configured("supervised").config, shapes_root, World(), Silent())
    assert measure(alone, 1)["gflop_per_step"] < plain["gflop_per_step"] / 2  # the unlabeled branch was on


def test_a_cost_counts_the_first_call_and_times_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the number of calls, so every step that is timed takes as many ms as calls were made by then."""
    net, x, calls = nn.Linear(4, 8, bias=False), torch.randn(3, 4), list[float]()

    def step() -> None:
        net(x)
        calls.append(calls[-1] + len(calls) / 1000 if calls else 0.0)

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: calls[-1]))
    found = cost_of(step, 3, torch.device("cpu"))
    assert len(calls) == 5
    assert found["gflop_per_step"] == pytest.approx(2 * 3 * 4 * 8 / 1e9)
    assert found["step"] == pytest.approx({"median": 3.0, "min": 2.0, "max": 4.0})
    assert found["step_ms"] == found["step"]["median"]


def test_batches_that_are_given_are_taken(shapes_root: Path, configured: Callable[..., Resolved]) -> None:
    session = open_config(configured("supervised").config, shapes_root, World(), Silent())
    batches = list(islice(session.batches(session.plan), 3))
    taken = iter(batches)
    assert measure(session, 1, batches=taken)["step_ms"] > 0
    assert next(taken, None) is None
