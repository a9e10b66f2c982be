"""Encoder weights: torchvision's download, or a safetensors file. Nothing is ever loaded with a silent mismatch.

This module imports torch where it needs it, so that importing `core.models` stays cheap.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import network_of
from semiseg_cli.core.models.names import Backbone, known

if TYPE_CHECKING:
    from torch import Tensor

    from semiseg_cli.core.networks import Encoder

OFFLINE = "`--weights FILE` with a safetensors file of the backbone, or `--weights none` to train from scratch"


def load_encoder(
    encoder: Encoder, backbone: str, weights: str, *, note: Callable[[str], None] = lambda line: None
) -> str:
    """Load an encoder's weights and say in one line what was loaded and what was not.

    weights: "none" leaves the random ones; "imagenet" takes torchvision's, downloaded once into the cache;
    "auto" is "imagenet", or "none" for a backbone for which nobody has weights; anything else is a safetensors file: of
    the backbone as torchvision or timm name its parameters, or a semiseg checkpoint or run with the same backbone.
    Of the file's tensors only the classifier's may be left over, and of the encoder's only the counters
    `num_batches_tracked` may be absent. float16 becomes float32.
    note: is told about a download before it starts.
    Raises CheckpointError where the weights cannot be had, read or fitted.
    """
    if starts_random(backbone, weights):
        why = "" if weights == "none" else ", there are no weights for it"
        return f"encoder {backbone}: from scratch{why}" + (f"; {encoder.remark}" if encoder.remark else "")
    path = imagenet_file(backbone, note) if weights in ("auto", "imagenet") else network_of(Path(weights))
    tensors, metadata = _read(path)
    if "semiseg" in metadata:
        tensors = _encoder_of_checkpoint(tensors, metadata["semiseg"], backbone, path)
    else:
        tensors = encoder.renamed(tensors)
    return _fit(encoder, tensors, backbone, path)


def starts_random(backbone: str, weights: str) -> bool:
    """Whether `load_encoder` would leave the random weights."""
    found = known(backbone)
    nobody = found is not None and not (found.torchvision or found.timm)
    return weights == "none" or (weights == "auto" and nobody)


def imagenet_url(backbone: str) -> str:
    """Where torchvision keeps the ImageNet weights of a backbone. CheckpointError with a way out where it has none."""
    return str(_torchvision_weights(backbone).url)


def imagenet_file(backbone: str, note: Callable[[str], None] = lambda line: None) -> Path:
    """torchvision's ImageNet weights as a safetensors file in the cache; downloaded if they are not there yet."""
    from safetensors import SafetensorError

    url = imagenet_url(backbone)
    cached = _cached(url)
    if what := to_download(backbone, "imagenet"):
        note(f"downloading {what}")
        try:
            _download(url, cached)
        except (OSError, SafetensorError) as error:  # the network, the hash, or the disk
            raise CheckpointError(f"cannot download {url} to {cached}", why=str(error), fix=OFFLINE) from error
    return cached


def to_download(backbone: str, weights: str) -> str:
    """What `load_encoder` would download, from where and to where; empty where nothing."""
    if starts_random(backbone, weights) or weights not in ("auto", "imagenet"):
        return ""
    url = imagenet_url(backbone)
    megabytes = _torchvision_weights(backbone).meta["num_params"] * 4 / 1e6
    there = _cached(url).exists()
    return "" if there else f"ImageNet weights of {backbone} ({megabytes:.0f} MB) from {url} to {_cached(url)}"


def _cached(url: str) -> Path:
    return cache_folder() / f"{Path(url).stem}.safetensors"


def cache_folder() -> Path:
    """`$SEMISEG_CACHE/weights`, or `~/.cache/semiseg/weights`."""
    root = os.environ.get("SEMISEG_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "semiseg") / "weights"


def _torchvision_weights(backbone: str) -> Any:
    """torchvision's description of the original recipe's weights (V1), which the field's papers start from."""
    found = known(backbone) or Backbone()
    if found.timm:
        raise CheckpointError(
            f"torchvision has no weights for {backbone}; timm's {found.timm} fit",
            fix='`python -c "import timm, safetensors.torch as s; '
            f"s.save_file(timm.create_model('{found.timm}', pretrained=True).state_dict(), "
            f"'{backbone}.safetensors')\"`, then `--weights {backbone}.safetensors`; or `--weights none`",
        )
    if not found.torchvision:
        raise CheckpointError(f"torchvision has no ImageNet weights for {backbone}", fix="`--weights none`")
    import torchvision.models

    return torchvision.models.get_model_weights(found.torchvision).IMAGENET1K_V1


def _download(url: str, target: Path) -> None:
    """Fetch a pickled state dict, check it against the hash in its name, and write it as safetensors.

    The one place where a pickle is read: only after its hash was found right, and with `weights_only=True`.
    The target appears whole or not at all.
    """
    from urllib.request import urlopen  # 30 ms, which `semiseg --help` need not pay

    import torch
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pickled, converted = Path(folder, "download"), Path(folder, "converted")
        digest = hashlib.sha256()
        with urlopen(url, timeout=30) as response, pickled.open("wb") as file:
            while chunk := response.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        expected = Path(url).stem.rsplit("-", 1)[1]  # torchvision's names end in the first digits of the sha256
        if not digest.hexdigest().startswith(expected):
            raise OSError(f"its sha256 begins with {digest.hexdigest()[:8]} instead of {expected}")
        state = torch.load(pickled, map_location="cpu", weights_only=True)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, converted, {"source": url})
        converted.replace(target)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}", fix="`--weights imagenet`, `none`, or a file's path")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors",
            why=f"truncated, or of another kind ({error})",
            fix="copy or download it again; a PyTorch file is converted with `python -c \"import torch, "
            "safetensors.torch as s; s.save_file(torch.load('in.pth', weights_only=True), 'out.safetensors')\"`",
        ) from error


def _encoder_of_checkpoint(tensors: Mapping[str, Tensor], text: str, backbone: str, path: Path) -> dict[str, Tensor]:
    """The encoder's tensors of a semiseg checkpoint, whose metadata say which backbone it has."""
    try:
        theirs = json.loads(text)["model"]["backbone"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not say which backbone it has", fix=_what_fits(backbone)) from error
    if theirs != backbone:
        fix = f"semiseg train -b {theirs}, or semiseg pair --encoder {shlex.quote(str(path))}"
        raise CheckpointError(f"{path} is a checkpoint of {theirs}, not of {backbone}", fix=fix)
    prefix = "encoder."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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
        why = "; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in misfits.items() if names)
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


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _what_fits(backbone: str) -> str:
    fitting = [f"a semiseg checkpoint of {backbone}"]
    found = known(backbone) or Backbone()
    if found.torchvision:
        fitting += [f"torchvision's {backbone} (`--weights imagenet`, or its state dict as safetensors)"]
    if found.timm:
        fitting += [f"timm's {found.timm} as safetensors"]
    return f"what fits is {' or '.join(fitting)}; `--weights none` trains from scratch"
