"""Few threads for small work: by the rule, by the environment, by the setting; kept in the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training import threads
from semiseg_cli.core.training.threads import take_threads, work

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "available", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def taken(asked: int, backbone: str, pixels: int) -> int:
    net = build_segmenter(backbone, "deeplabv3plus", 21)
    found = take_threads(asked, net, pixels, CPU)
    assert torch.get_num_threads() == found
    return found


def test_threads_by_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(0, "tiny", 16 * 96**2) == 1  # the demo's step: measured, a second gains nothing
    assert 2 <= taken(0, "resnet50", 4 * 129**2) < 16
    assert taken(0, "resnet50", 16 * 321**2) == 16
    monkeypatch.setattr(threads, "available", lambda: 2)
    assert taken(0, "resnet50", 16 * 321**2) == 2


def test_the_work_is_of_the_right_size() -> None:
    """Of a ResNet-50 with DeepLabV3+ at 321, fvcore and PyTorch's counter say 31.7 billion an image."""
    net = build_segmenter("resnet50", "deeplabv3plus", 21)
    assert work(net, 321**2) == pytest.approx(31.7e9, rel=0.6)


def test_who_says_a_number_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(3, "tiny", 1) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(threads, "available", lambda: 5)
    assert taken(0, "tiny", 1) == 5
    assert taken(2, "tiny", 1) == 2


def test_on_a_gpu_nothing_changes() -> None:
    before = torch.get_num_threads()
    net = build_segmenter("tiny", "deeplabv3plus", 21)
    assert take_threads(0, net, 10**9, torch.device("cuda")) == 0
    assert torch.get_num_threads() == before
