"""Building networks: sizes, seeds, names."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.models import BACKBONES, build_decoder, build_segmenter


@pytest.mark.parametrize(
    ("backbone", "classes", "parameters"),
    [
        ("resnet50s", 21, 40_475_957),
        ("resnet101s", 21, 59_468_085),
        ("resnet50s", 19, 40_475_443),
        ("resnet101s", 19, 59_467_571),
    ],
)
@pytest.mark.parametrize("output_stride", [16, 8])
def test_parameter_counts_are_those_of_the_field(backbone, classes, parameters, output_stride):
    with torch.device("meta"):
        net = build_segmenter(backbone, "deeplabv3plus", classes, output_stride=output_stride)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_tiny_is_tiny():
    net = build_segmenter("tiny", "deeplabv3plus", 6)
    assert 740_000 < sum(p.numel() for p in net.parameters()) < 780_000


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def make(**options):
    return build_segmenter("tiny", "deeplabv3plus", 4, **options)


def test_a_network_is_a_function_of_its_seeds():
    one, again = make(seed=7, head_seed=2), make(seed=7, head_seed=2)
    assert equal(one, again)

    other_head = make(seed=7, head_seed=3)
    assert equal(one.encoder, other_head.encoder)
    assert not torch.equal(one.decoder.classifier.weight, other_head.decoder.classifier.weight)

    other = make(seed=8, head_seed=2)
    assert not torch.equal(one.encoder.conv1.weight, other.encoder.conv1.weight)
    assert not torch.equal(one.decoder.classifier.weight, other.decoder.classifier.weight)


def test_a_decoder_alone_is_that_of_the_network():
    decoder = build_decoder("tiny", "deeplabv3plus", 4, seed=7, head_seed=3)
    assert equal(decoder, make(seed=7, head_seed=3).decoder)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    make(seed=1)
    build_decoder("tiny", "deeplabv3plus", 4)
    assert torch.equal(torch.rand(5), expected)


def test_unknown_names_and_strides_are_usage_errors():
    with pytest.raises(UsageError, match="no backbone called 'resnet5'") as caught:
        build_segmenter("resnet5", "deeplabv3plus", 4)
    assert "did you mean 'resnet50'" in caught.value.fix
    with pytest.raises(UsageError, match="no decoder called 'deeplab'"):
        build_segmenter("tiny", "deeplab", 4)
    with pytest.raises(UsageError, match="output stride 4"):
        make(output_stride=4)


def test_names_are_listed_without_torch():
    code = "import sys; from semiseg_cli.core.models import BACKBONES; print(*BACKBONES)"
    code += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(BACKBONES)
