"""Where the published weights of encoders are: on the hub, or, for MobileNetV2, torchvision's pickle.

This module imports torch and timm where it needs them, so that importing `core.models` stays cheap.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.models import hub
from semiseg_cli.core.models.names import DINOV3, Backbone, known
from semiseg_cli.core.web import ask, body

OFFLINE = "`--weights FILE` with a safetensors file of the backbone, or `--weights none` to train from scratch"


class Published(NamedTuple):
    """A file on the hub. licence: "" where its publisher states none. size: in words, about."""

    repo: str
    file: str
    licence: str
    size: str


def published(backbone: str) -> Published | None:
    """The weights of a backbone on the hub; None where there are none, or only torchvision has them.

    Raises UsageError for a name that timm does not know.
    """
    found = known(backbone) or Backbone()
    if not found.timm:
        return None
    size = f"about {found.megabytes} MB" if found.megabytes else "of unknown size"
    if found.licence:
        return Published(f"timm/{found.timm}", "model.safetensors", found.licence, size)
    import timm

    from semiseg_cli.core.models.backbones.library import check_name

    check_name(found.timm)
    told = timm.get_pretrained_cfg(found.timm)
    if told is None or not told.hf_hub_id:
        return None
    name = told.hf_hub_filename or "model.safetensors"
    file = name if name.endswith(".safetensors") else "model.safetensors"
    return Published(told.hf_hub_id, file, told.license or "", size)


def licence_of(backbone: str) -> str:
    """Of the published weights of a backbone; "" where nobody states one."""
    there = published(backbone)
    return there.licence if there else (known(backbone) or Backbone()).licence


def published_file(backbone: str, note: Callable[[str], None] = lambda line: None) -> tuple[Path, str]:
    """The published weights as a safetensors file in a cache, downloaded if need be; and what they are called.

    Raises CheckpointError with a way out where they cannot be had.
    """
    if (known(backbone) or Backbone()).torchvision:
        return _torchvisions(backbone, note), f"torchvision {torchvision_url(backbone)}"
    there = published(backbone)
    if there is None:
        raise CheckpointError(f"nobody has published weights for {backbone}", fix="`--weights none`")
    if there.licence == DINOV3:
        raise CheckpointError(
            f"the weights of {backbone} are not downloaded: Meta's DINOv3 License is to be accepted first",
            why="what is trained from them may only be passed on under it",
            fix=f"read it and get them from {hub.address(there.repo, there.file)}, then `--weights FILE`; "
            "or -b dinov2_s (Apache-2.0), as good on most data",
        )
    if (before := _downloaded_before(backbone)) is not None:
        return before, f"torchvision {before.stem}"
    path = hub.fetch(there.repo, there.file, there.size, note)
    return path, f"{there.repo}@{hub.revision_of(path)[:12]}"


def to_download(backbone: str) -> str:
    """What `published_file` would download, from where; empty where nothing. Nobody is asked over the network."""
    if (known(backbone) or Backbone()).torchvision:
        url = torchvision_url(backbone)
        there = _cached(url).exists()
        megabytes = _torchvision(backbone).meta["num_params"] * 4 / 1e6
        return "" if there else f"ImageNet weights of {backbone} ({megabytes:.0f} MB) from {url} to {_cached(url)}"
    there_is = published(backbone)
    if there_is is None or there_is.licence == DINOV3:
        return ""
    if _downloaded_before(backbone) or hub.cached(there_is.repo, there_is.file):
        return ""
    return f"weights of {backbone} ({there_is.size}) from {hub.address(there_is.repo, there_is.file)}"


def cache_folder() -> Path:
    """`$SEMISEG_CACHE/weights`, or `~/.cache/semiseg/weights`."""
    root = os.environ.get("SEMISEG_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "semiseg") / "weights"


def _downloaded_before(backbone: str) -> Path | None:
    """torchvision's file of a ResNet, as earlier versions of this program kept it; the hub's has the same numbers."""
    return next(iter(sorted(cache_folder().glob(f"{backbone}-{'[0-9a-f]' * 8}.safetensors"))), None)


def torchvision_url(backbone: str) -> str:
    """Where torchvision keeps the ImageNet weights of a backbone."""
    return str(_torchvision(backbone).url)


def _torchvision(backbone: str) -> Any:
    """torchvision's description of the original recipe's weights (V1), which the field's papers start from."""
    import torchvision.models

    return torchvision.models.get_model_weights((known(backbone) or Backbone()).torchvision).IMAGENET1K_V1


def _cached(url: str) -> Path:
    return cache_folder() / f"{Path(url).stem}.safetensors"


def _torchvisions(backbone: str, note: Callable[[str], None]) -> Path:
    from safetensors import SafetensorError

    url = torchvision_url(backbone)
    cached = _cached(url)
    if what := to_download(backbone):
        note(f"downloading {what}")
        try:
            _download(url, cached, most=8 * int(_torchvision(backbone).meta["num_params"]))
        except (OSError, SafetensorError) as error:  # the network, the hash, or the disk
            raise CheckpointError(f"cannot download {url} to {cached}", why=str(error), fix=OFFLINE) from error
    return cached


def _download(url: str, target: Path, most: int) -> None:
    """Fetch a pickled state dict of at most `most` bytes, and write it as safetensors. It appears whole or not at all.

    The one place where a pickle is read, with `weights_only=True`, of which no code is run. torchvision publishes the
    first digits of its sha256 alone, in its name: they tell damage, and that it is torchvision's, https does.
    """
    import torch
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pickled, converted = Path(folder, "download"), Path(folder, "converted")
        with ask(url, timeout=3) as answer:
            data = body(answer, most)
        digest, expected = hashlib.sha256(data).hexdigest(), Path(url).stem.rsplit("-", 1)[1]
        if not digest.startswith(expected):
            raise OSError(f"its sha256 begins with {digest[:8]} instead of {expected}")
        pickled.write_bytes(data)
        state = torch.load(pickled, map_location="cpu", weights_only=True)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, converted, {"source": url})
        converted.replace(target)
