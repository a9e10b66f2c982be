"""Where the published weights of encoders are: on the hub, or, for MobileNetV2, torchvision's pickle.

This module imports torch and timm where it needs them, so that importing `core.models` stays cheap.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from semiseg_cli.core import download
from semiseg_cli.core.errors import CheckpointError, DataError
from semiseg_cli.core.files import whole
from semiseg_cli.core.models import hub
from semiseg_cli.core.models.names import DINOV3, Backbone, known

OFFLINE = "`--weights FILE` with a safetensors file of the backbone, or `--weights none` to train from scratch"
# The weights of the original recipe (V1), which the field's papers start from. torchvision itself says eight digits of
# the sha256; the whole of it is what everybody has who packs the file: OpenEmbedded's recipe of torchvision, a wheel on
# PyPI that holds it.
TORCHVISION = {
    "mobilenet_v2": download.Published(
        "mobilenet_v2-b0353104.pth",
        14_212_972,
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",),
    )
}


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
        url, size = torchvision_url(backbone), TORCHVISION[backbone].size / 1e6
        there = _cached(url).exists()
        return "" if there else f"ImageNet weights of {backbone} ({size:.0f} MB) from {url} to {_cached(url)}"
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
    return TORCHVISION[backbone].urls[0]


def _cached(url: str) -> Path:
    return cache_folder() / f"{Path(url).stem}.safetensors"


def _torchvisions(backbone: str, note: Callable[[str], None]) -> Path:
    """torchvision's state dict as safetensors, which appears whole or not at all.

    The one place where a pickle is read: with `weights_only=True`, of which no code is run, and only of this sha256.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    url = torchvision_url(backbone)
    cached = _cached(url)
    if what := to_download(backbone):
        note(f"downloading {what}")
        try:
            pickled = download.download(TORCHVISION[backbone], cached.parent)
            state = torch.load(pickled, map_location="cpu", weights_only=True)
            with whole(cached) as new:
                save_file({name: tensor.contiguous() for name, tensor in state.items()}, new, {"source": url})
            pickled.unlink()
        except (DataError, OSError, SafetensorError) as error:  # the network, the hash, or the disk
            why = error.why if isinstance(error, DataError) else str(error)
            raise CheckpointError(f"cannot download {url} to {cached}", why=why, fix=OFFLINE) from error
    return cached
