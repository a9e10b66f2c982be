"""Networks: how one is built from a backbone and a decoder.

Importing this module does not import torch. The names are in `names`; what a backbone and a decoder promise is said by
`Encoder` and `Decoder` in core/networks.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.models.names import BACKBONES, DECODERS, LIBRARY, known
from semiseg_cli.core.models.weights import load_encoder, starts_random, to_download
from semiseg_cli.core.registry import load_named
from semiseg_cli.core.settings import ModelConfig, unread

if TYPE_CHECKING:
    from semiseg_cli.core.models.segmenter import Segmenter
    from semiseg_cli.core.networks import Decoder, Encoder

__all__ = [
    "BACKBONES",
    "DECODERS",
    "build_decoder",
    "build_encoder",
    "build_segmenter",
    "described",
    "known",
    "load_encoder",
    "starts_random",
    "stated",
    "to_download",
]


def described(model: ModelConfig) -> ModelConfig:
    """The settings with the decoder's name where they say `auto`: the first of those that fit the encoder.

    Raises UsageError for a decoder that does not fit, and for an output stride where the encoder has no such thing.
    """
    from semiseg_cli.core.networks import EQUAL

    strides = stated(model.backbone, model.output_stride).strides
    patches = EQUAL.fits(strides)
    if model.decoder == "auto":
        model = replace(model, decoder=[*_fitting(strides), *DECODERS][0])
    try:
        _check_fit(model.decoder, model.backbone, strides)
    except UsageError as misfit:
        if patches and model.output_stride != ModelConfig.output_stride:  # the next thing to be refused
            misfit.fix += f" --set model.output_stride={ModelConfig.output_stride}"
        raise
    if patches:
        unread(model, "output_stride", f"all maps of {model.backbone} have the stride {strides[0]}")
    return model


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
    freeze_encoder: bool = False,
) -> Segmenter:
    """A network with random weights. upsampling: see `Upsample`, of the maps and logits in its decoder.

    The encoder's are a function of `seed`, the decoder's of `seed` and `head_seed`: two networks of one seed and
    different head seeds share their initial encoder only. PyTorch's generators are left as they were.
    """
    from semiseg_cli.core.models.segmenter import Segmenter

    encoder = build_encoder(backbone, output_stride=output_stride, seed=seed)
    head = _decoder(decoder, backbone, encoder, classes, seed, head_seed, upsampling)
    return Segmenter(encoder, head, freeze_bn=freeze_bn, freeze_encoder=freeze_encoder)


def build_encoder(backbone: str, *, output_stride: int = 16, seed: int = 0) -> Encoder:
    """The encoder that `build_segmenter` would make, alone."""
    if output_stride not in (8, 16, 32):
        raise UsageError(f"output stride {output_stride} is not possible", fix="--set model.output_stride=16")
    found = known(backbone)
    if found is None:
        elsewhere = f"; any network of timm's is called {LIBRARY}NAME"
        raise UsageError(f"there is no backbone called '{backbone}'", fix=did_you_mean(backbone, BACKBONES) + elsewhere)
    with _seeded(seed):
        if found.factory:
            factory = load_named({backbone: found.factory}, backbone, "")
            encoder: Encoder = factory(output_stride)
        else:
            from semiseg_cli.core.models.backbones.library import opened

            encoder = opened(found.timm, output_stride)
    return encoder


def stated(backbone: str, output_stride: int = 16) -> Encoder:
    """An encoder for what it states, channels and strides, which has no weights and takes no time."""
    import torch

    with torch.device("meta"):
        return build_encoder(backbone, output_stride=output_stride)


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
    return _decoder(decoder, backbone, stated(backbone, output_stride), classes, seed, head_seed, upsampling)


def _decoder(
    decoder: str, backbone: str, encoder: Encoder, classes: int, seed: int, head_seed: int, upsampling: str
) -> Decoder:
    from semiseg_cli.core.models.decoders.blocks import Upsample

    _check_fit(decoder, backbone, encoder.strides)
    kind = _decoder_class(decoder)
    with _seeded(seed, 1 + head_seed):
        head = kind(encoder.channels, encoder.strides, classes)
    for module in head.modules():
        if isinstance(module, Upsample):
            module.mode = upsampling
    return head


def _check_fit(decoder: str, backbone: str, strides: Sequence[int]) -> None:
    need, fitting = _decoder_class(decoder).need, _fitting(strides)
    if not need.fits(strides):
        raise UsageError(
            f"decoder {decoder} needs {need.words}",
            why=f"the maps of {backbone} have the strides {', '.join(map(str, strides))}",
            fix=f"--set model.decoder={fitting[0]}" if fitting else "another --backbone",
        )


def _fitting(strides: Sequence[int]) -> list[str]:
    return [name for name in DECODERS if _decoder_class(name).need.fits(strides)]


def _decoder_class(decoder: str) -> type[Decoder]:
    found: type[Decoder] = load_named(DECODERS, decoder, f"there is no decoder called '{decoder}'")
    return found


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
