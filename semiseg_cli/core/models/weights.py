"""Weights put into encoders: published ones, or a safetensors file. Nothing is ever loaded with a silent mismatch.

This module imports torch where it needs it, so that importing `core.models` stays cheap.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from semiseg_cli.core.errors import CheckpointError, few
from semiseg_cli.core.files import network_of
from semiseg_cli.core.models import published
from semiseg_cli.core.models.names import DINOV3, Backbone, known
from semiseg_cli.core.reading import parse_json
from semiseg_cli.core.tensors import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from semiseg_cli.core.networks import Encoder


class _Model(TypedDict):
    backbone: str


class _Encoder(TypedDict):
    weights: str
    licence: str


class _Checkpoint(TypedDict):
    """What a semiseg checkpoint says of its encoder."""

    model: _Model
    encoder: NotRequired[_Encoder]


def load_encoder(
    encoder: Encoder, backbone: str, weights: str, *, note: Callable[[str], None] = lambda line: None
) -> str:
    """Load an encoder's weights and say in one line what was loaded and what was not.

    weights: "none" leaves the random ones; "imagenet" takes the published ones, downloaded once into a cache; "auto"
    is "imagenet", or "none" for a backbone for which nobody has weights; anything else is a safetensors file: of the
    backbone as its publishers name its parameters, or a semiseg checkpoint or run with the same backbone.
    Of the file's tensors only the classifier's may be left over, and of the encoder's only the counters
    `num_batches_tracked` may be absent. float16 becomes float32. The encoder then knows its `origin`.
    note: is told about a download before it starts.
    Raises CheckpointError where the weights cannot be had, read or fitted.
    """
    from semiseg_cli.core.networks import Origin

    if starts_random(backbone, weights):
        why = "" if weights == "none" else ", there are no weights for it"
        return f"encoder {backbone}: from scratch{why}" + (f"; {encoder.remark}" if encoder.remark else "")
    if weights in ("auto", "imagenet"):
        path, called = published.published_file(backbone, note)
        origin, whose = Origin(called, published.licence_of(backbone)), "licence"
    else:
        path = network_of(Path(weights))
        origin, whose = Origin(path.name), "licence"
    tensors, metadata = _read(path)
    if "semiseg" in metadata:
        tensors, meta = _encoder_of_checkpoint(tensors, metadata["semiseg"], backbone, path)
        origin, whose = Origin.of(meta), "licence of its first weights"
    else:
        tensors = encoder.renamed(tensors)
        origin = origin if origin.licence else Origin(origin.weights, _licence_of_file(path, metadata, backbone))
    line = _fit(encoder, tensors, backbone, path)
    encoder.origin = origin
    return f"{line}; {whose}: {origin.licence}" if origin.licence else line


def starts_random(backbone: str, weights: str) -> bool:
    """Whether `load_encoder` would leave the random weights. Under "auto" timm is asked of a `timm:NAME`.

    Raises UsageError for such a name that timm does not know.
    """
    if weights != "auto":
        return weights == "none"
    found = known(backbone)
    return found is not None and not found.torchvision and published.published(backbone) is None


def to_download(backbone: str, weights: str) -> str:
    """What `load_encoder` would download, and from where; empty where nothing."""
    wanted = weights in ("auto", "imagenet") and not starts_random(backbone, weights)
    return published.to_download(backbone) if wanted else ""


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}", fix="`--weights imagenet`, `none`, or a file's path")
    try:
        return read_tensors(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors",
            why=f"truncated, or of another kind ({error})",
            fix="copy or download it again; a PyTorch file is converted with `python -c \"import torch, "
            "safetensors.torch as s; s.save_file(torch.load('in.pth', weights_only=True), 'out.safetensors')\"`",
        ) from error


def _licence_of_file(path: Path, metadata: Mapping[str, str], backbone: str) -> str:
    """The licence of a file that somebody brought, as it says; else that of nobody's but DINOv3's is taken for granted.

    Another network's weights may fit: a DINOv3 ConvNeXt fits convnext_t. DINOv3's own names never fit freer weights.
    """
    stated = metadata.get("license") or metadata.get("licence")
    usual = published.licence_of(backbone)
    if stated or usual == DINOV3:
        return stated or usual
    return f"unknown ({path.name})" + (f", published weights of {backbone}: {usual}" if usual else "")


def _encoder_of_checkpoint(
    tensors: Mapping[str, Tensor], text: str, backbone: str, path: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The encoder's tensors of a semiseg checkpoint, and its metadata, which say which backbone it has."""
    try:
        meta = parse_json(text, _Checkpoint)
        theirs = meta["model"]["backbone"]
    except ValueError as error:
        raise CheckpointError(f"{path} does not say which backbone it has", fix=_what_fits(backbone)) from error
    if theirs != backbone:
        fix = f"semiseg train -b {theirs}, or semiseg pair --encoder {shlex.quote(str(path))}"
        raise CheckpointError(f"{path} is a checkpoint of {theirs}, not of {backbone}", fix=fix)
    prefix = "encoder."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}, meta


def _fit(encoder: Encoder, tensors: dict[str, Tensor], backbone: str, path: Path) -> str:
    """Load `tensors` into the encoder if names and shapes agree; CheckpointError, and nothing loaded, if not."""
    expected: Mapping[str, Tensor] = encoder.state_dict()
    unused = [prefix for prefix in encoder.unused if any(name.startswith(prefix) for name in tensors)]
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(unused))}
    absent = [name for name in expected if name not in given]
    misfits = {
        "missing": [n for n in absent if not n.endswith(".num_batches_tracked")],
        "unexpected": [n for n in given if n not in expected],
        "of another shape": [
            f"{n} {tuple(t.shape)} instead of {tuple(expected[n].shape)}"
            for n, t in given.items()
            if n in expected and t.shape != expected[n].shape
        ],
    }
    if any(misfits.values()):
        why = "; ".join(f"{len(names)} {what}: {few(names, 4)}" for what, names in misfits.items() if names)
        raise CheckpointError(f"{path} does not fit {backbone}", why=why, fix=_what_fits(backbone))
    encoder.load_state_dict(given, strict=False)
    line = f"encoder {backbone}: {len(given)} tensors from {path}"
    if encoder.remark:
        line += f"; {encoder.remark}"
    if unused:
        line += f"; its {', '.join(f'{prefix}*' for prefix in unused)} left out"
    if absent:
        line += "; it lacks num_batches_tracked, which stay 0"
    return line


def _what_fits(backbone: str) -> str:
    fitting = [f"a semiseg checkpoint of {backbone}"]
    found = known(backbone) or Backbone()
    if found.torchvision:
        fitting += [f"torchvision's {backbone} (`--weights imagenet`, or its state dict as safetensors)"]
    if found.timm:
        fitting += [f"timm's {found.timm} (`--weights imagenet`, or its file)"]
    return f"what fits is {' or '.join(fitting)}; `--weights none` trains from scratch"
