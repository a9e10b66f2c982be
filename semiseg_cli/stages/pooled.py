"""Pooled features of many images by an encoder, computed once for `semiseg pair` and `semiseg pick`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.files import network_of
from semiseg_cli.core.inference.feature_rows import Features
from semiseg_cli.core.inference.features import SIDE, Load, extract
from semiseg_cli.core.models import BACKBONES, build_encoder, known, load_encoder
from semiseg_cli.core.partitions.pairs import files_of
from semiseg_cli.core.training.alike import alike, one_folder
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World


class Pooling(NamedTuple):
    """An encoder on its device, its name, what was loaded in a line, how images are shown, and all of it as sha256."""

    net: Any
    name: str
    line: str
    normalise: Mapping[str, Sequence[float]]
    device: torch.device
    fingerprint: str

    @classmethod
    def of(cls, encoder: str, weights: str, world: World, note: Callable[[str], None]) -> Pooling:
        """encoder: a backbone with `weights`, or a checkpoint or run; the same in all processes."""

        def load() -> Pooling:
            net, name, line, normalise = _encoder(encoder, weights, note)
            net = net.to(world.device).eval()
            return cls(net, name, line, normalise, world.device, _fingerprint(net, normalise))

        return alike(f"encoder {encoder}", load, lambda found: {"sha256 of its weights": found.fingerprint}, world)

    def compute(
        self, records: Sequence[Record], folder: Path, world: World, *, load: Load = decode_record,
        lenient: bool = False, advance: Callable[[int], object] = lambda images: None,
    ) -> tuple[Features, int]:  # fmt: skip
        """The features of these image files, in `folder`, and how many of them were not there; as `extract`."""
        one_folder(folder, world)
        files = alike("set of photos", lambda: files_of(records), lambda mark: {"names, sizes and times": mark}, world)
        name = hashlib.sha256((self.fingerprint + files).encode()).hexdigest()[:16]
        features = Features(folder / f"features-{name}.f16", len(records), int(self.net.channels[-1]))
        how: dict[str, Any] = {"load": load, "lenient": lenient, "advance": advance, **self.normalise}
        return features, extract(self.net, records, features, device=self.device, **how)


def _encoder(encoder: str, weights: str, note: Callable[[str], None]) -> tuple[Any, str, str, Any]:
    """Images to maps; its name; what was loaded, in a line; and the mean and std of what it is shown."""
    if known(encoder):
        net = build_encoder(encoder, output_stride=32)
        line = load_encoder(net, encoder, weights, note=note)
        note(line)
        return net, encoder, line, {"mean": net.mean, "std": net.std}
    if not Path(encoder).exists():
        raise UsageError(f"'{encoder}' is neither a backbone nor a checkpoint", fix=did_you_mean(encoder, BACKBONES))
    if weights != "auto":
        raise UsageError(f"{encoder} brings its own weights, so --weights {weights} has no place")
    path = network_of(Path(encoder))
    trained, meta = load_network(path)
    name = meta["model"]["backbone"]
    return trained.encoder, name, f"encoder {name}: {path}", meta["normalise"]


def _fingerprint(net: nn.Module, normalise: Mapping[str, Sequence[float]]) -> str:
    """sha256 of all that decides the features: parameters, statistics, strides, and how images are shown."""
    digest = hashlib.sha256(f"{SIDE} {[list(values) for values in normalise.values()]}".encode())
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            digest.update(f"{name} {module.stride} {module.dilation}".encode())
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
