"""Networks: which backbones and decoders there are, and how a network is built from them.

Importing this module does not import torch, so that command-line completion can list the names.
A backbone is one file and one line in `BACKBONES`: a factory from the output stride to an encoder. An encoder gives
its maps finest first, states their `channels`, and names what it leaves `unused` of a classifier's weights.
A decoder is one file and one line in `DECODERS`: a factory from (channels, classes, output stride) to a module that
turns maps and a size into `Out`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.models.weights import imagenet_url, load_encoder
from semiseg_cli.core.registry import load_named

if TYPE_CHECKING:
    from semiseg_cli.core.models.segmenter import Segmenter
    from semiseg_cli.core.types import Decoder

__all__ = ["BACKBONES", "DECODERS", "MEAN", "STD", "build_decoder", "build_segmenter", "imagenet_url", "load_encoder"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]: what every pretrained encoder expects
STD = (0.229, 0.224, 0.225)

_HERE = "semiseg_cli.core.models"
BACKBONES = {
    "tiny": f"{_HERE}.backbones.tiny:tiny",
    "mobilenet_v2": f"{_HERE}.backbones.mobilenet:mobilenet_v2",
    "resnet18": f"{_HERE}.backbones.resnet:resnet18",
    "resnet34": f"{_HERE}.backbones.resnet:resnet34",
    "resnet50": f"{_HERE}.backbones.resnet:resnet50",
    "resnet101": f"{_HERE}.backbones.resnet:resnet101",
    "resnet50s": f"{_HERE}.backbones.resnet:resnet50s",
    "resnet101s": f"{_HERE}.backbones.resnet:resnet101s",
}
DECODERS = {
    "deeplabv3plus": f"{_HERE}.decoders.deeplabv3plus:DeepLabV3Plus",
    "mitrans": f"{_HERE}.decoders.mitrans:mitrans",
    "mitrans_local": f"{_HERE}.decoders.mitrans:mitrans_local",
}


def build_segmenter(
    backbone: str,
    decoder: str,
    classes: int,
    *,
    output_stride: int = 16,
    seed: int = 0,
    head_seed: int = 0,
    upsampling: str = "bilinear",
    freeze_bn: bool = False,
) -> Segmenter:
    """A network with random weights. upsampling: see `Upsample`, of the maps and logits in its decoder.

    The encoder's are a function of `seed`, the decoder's of `seed` and `head_seed`: two networks of one seed and
    different head seeds share their initial encoder only. PyTorch's generators are left as they were.
    """
    from semiseg_cli.core.models.segmenter import Segmenter

    encoder = _encoder(backbone, output_stride, seed)
    head = _decoder(decoder, encoder, classes, output_stride, seed, head_seed, upsampling)
    return Segmenter(encoder, head, freeze_bn=freeze_bn)


def build_decoder(
    backbone: str,
    decoder: str,
    classes: int,
    *,
    output_stride: int = 16,
    seed: int = 0,
    head_seed: int = 1,
    upsampling: str = "bilinear",
) -> Decoder:
    """The decoder that `build_segmenter` would make, alone, for methods with more than one."""
    import torch

    with torch.device("meta"):  # only its channels are wanted
        encoder = _encoder(backbone, output_stride, seed)
    return _decoder(decoder, encoder, classes, output_stride, seed, head_seed, upsampling)


def _encoder(backbone: str, output_stride: int, seed: int) -> Any:
    if output_stride not in (8, 16, 32):
        raise UsageError(f"output stride {output_stride} is not possible", fix="--set model.output_stride=16")
    factory = load_named(BACKBONES, backbone, f"there is no backbone called '{backbone}'")
    with _seeded(seed):
        return factory(output_stride)


def _decoder(
    decoder: str, encoder: Any, classes: int, output_stride: int, seed: int, head_seed: int, upsampling: str
) -> Decoder:
    from semiseg_cli.core.models.decoders.deeplabv3plus import Upsample

    factory = load_named(DECODERS, decoder, f"there is no decoder called '{decoder}'")
    with _seeded(seed, 1 + head_seed):
        head: Decoder = factory(encoder.channels, classes, output_stride)
    for module in head.modules():
        if isinstance(module, Upsample):
            module.mode = upsampling
    return head


@contextmanager
def _seeded(*seed: int) -> Iterator[None]:
    """Random numbers that depend on `seed` alone; PyTorch's CPU generator is put back afterwards.

    `torch.manual_seed` would also reseed the GPU's generators, which nothing puts back.
    """
    import numpy as np
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        yield
