"""Features on disk: what decides them decides where they lie, and what nothing names any more goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.inference.dense import Maps, fingerprint
from semiseg_cli.core.networks import Encoder


class Two(Encoder):
    """Two convolutions, with all that leaves no trace in its tensors."""

    channels, strides = (4,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.taps = (0, 1)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU()
        nn.init.constant_(self.conv.weight, 0.5)

    def forward(self, image_B3HW: torch.Tensor) -> list[torch.Tensor]:
        return [self.act(self.norm(self.conv(image_B3HW)))]


def activation(net: Two) -> None:
    net.act = nn.GELU()  # type: ignore[assignment]


def padding(net: Two) -> None:
    net.conv.padding_mode = "reflect"


def eps(net: Two) -> None:
    net.norm.eps = 1e-3


def taps(net: Two) -> None:
    net.taps = (0, 0)


def strides(net: Two) -> None:
    net.strides = (4,)


def mean(net: Two) -> None:
    net.mean = (0.5, 0.5, 0.5)


def weight(net: Two) -> None:
    nn.init.constant_(net.conv.weight, 0.25)


@pytest.mark.parametrize("change", [activation, padding, eps, taps, strides, mean, weight])
def test_two_encoders_share_nothing_though_their_tensors_agree(change: Callable[[Two], None]) -> None:
    other = Two()
    change(other)
    assert fingerprint(Two(), "two", 64) == fingerprint(Two(), "two", 64)
    assert fingerprint(other, "two", 64) != fingerprint(Two(), "two", 64)


def test_name_and_size_count_and_addresses_do_not() -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.how = lambda x: x

        def extra_repr(self) -> str:
            return repr(self.how)

    first, again = Two(), Two()
    first.act, again.act = Called(), Called()  # type: ignore[assignment]
    assert repr(first) != repr(again)
    assert fingerprint(first, "two", 64) == fingerprint(again, "two", 64)
    assert len({fingerprint(Two(), name, side) for name in ("two", "three") for side in (64, 65)}) == 4


@pytest.fixture
def record(tmp_path: Path) -> Record:
    Image.new("RGB", (8, 6), (200, 10, 10)).save(tmp_path / "a.png")
    return Record("a", tmp_path / "a.png", None, 6, 8)


def test_an_image_that_is_written_anew_as_it_was_keeps_its_features(record: Record, tmp_path: Path) -> None:
    maps = Maps.below(tmp_path / "features", Two().eval(), "two", 0)
    assert maps.compute([record]).images == 1
    record.image.write_bytes(record.image.read_bytes())
    os.utime(record.image, ns=(1, 1))
    assert maps.compute([record]).images == 0
    before = maps.path(record)
    Image.new("RGB", (8, 6), (10, 200, 10)).save(record.image)
    assert maps.compute([record]).images == 1
    assert list(maps.folder.iterdir()) == [maps.path(record)] != [before]


def test_features_of_what_left_the_dataset_go_wherever_they_lie(record: Record, tmp_path: Path) -> None:
    left = replace(record, id="b")
    first, other = (Maps.below(tmp_path / "features", Two().eval(), "two", side) for side in (0, 4))
    for maps in (first, other):
        assert maps.compute([record, left]).images == 2
    unversioned = other.folder / f"{'0' * 32}.safetensors"  # as they were called before
    unversioned.write_bytes(b"")
    first.drop_others([record])
    assert [list(maps.folder.iterdir()) for maps in (first, other)] == [[first.path(record)], [other.path(record)]]
