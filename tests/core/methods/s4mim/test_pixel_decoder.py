"""The heads of PiD: how many numbers, which first weights, and how many classes are too many."""

from __future__ import annotations

import pytest
import torch

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.s4mim.pixel_decoder import PixelDecoder
from semiseg_cli.core.training.step import Builder


def test_heads_have_the_papers_size_and_weights_of_their_own() -> None:
    spec = {"backbone": "resnet50", "decoder": "deeplabv3plus", "output_stride": 16}
    pid = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=0)
    assert pid.heads.weight.numel() == 145_152
    heads = pid.heads.weight.unflatten(0, (21, 3)).flatten(1)
    assert len(heads.detach()[:, 0].unique()) == 21
    assert heads.abs().max().item() == pytest.approx((9 * 256) ** -0.5, rel=1e-3)
    again = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=0)
    other = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=1)
    assert torch.equal(again.heads.weight, pid.heads.weight)
    assert not torch.equal(other.heads.weight, pid.heads.weight)


def test_more_classes_than_heads_can_be_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semiseg_cli.core.methods.s4mim.pixel_decoder.LARGEST_HEADS", 1)
    spec = {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16}
    with pytest.raises(UsageError, match=r"500 classes need 2 MB") as error:
        PixelDecoder(Builder(spec, 500).decoder(), 500, seed=0)
    assert error.value.code == 2
