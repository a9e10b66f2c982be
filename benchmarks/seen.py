"""What `benchmarks.picking` needs of a dataset's images, computed once: pooled features, and maps at a few places.

A probe's head decides pixel by pixel, so that a thousand places of an image are enough to train it on and to measure
it: a fit takes seconds, where whole maps take minutes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.photos import reduced_size
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.inference.dense import Maps
from semiseg_cli.core.inference.evaluation import load_labeled
from semiseg_cli.core.inference.feature_rows import Features
from semiseg_cli.core.inference.features import extract
from semiseg_cli.core.models import build_encoder, build_segmenter, load_encoder
from semiseg_cli.core.models.decoders.heads import MLP
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.training.heads import Example, sampled

PLACES, SIDE = 1024, 728  # of an image; SIDE as in a probe
MOST = 160  # images of a pool, and four times those that are evaluated


@dataclass(frozen=True)
class Seen:
    """A domain: the labeled training images (the pool) and the validation images, all at PLACES places.

    pooled: float32 (N, D), as `semiseg pick` sees the pool. pool, val: as a probe's head sees them.
    """

    dataset: Dataset
    pooled: Tensor
    pool: Sequence[Example]
    val: Sequence[Example]
    channels: Sequence[int]


def look(root: Path, name: str, backbone: str, weights: str, folder: Path) -> Seen:
    """The domain of a prepared dataset; what was computed before is read from `folder`."""
    whole = load_dataset(root, name).shown(SIDE)
    dataset = replace(whole, train=evenly(whole.labeled, MOST), val=evenly(whole.val, MOST // 4))
    file = folder / f"{name}-{backbone}.safetensors"
    if not file.is_file():
        began = time.process_time()
        folder.mkdir(parents=True, exist_ok=True)
        found = _places(dataset, backbone, weights) | {"pooled": _pooled(dataset, backbone, weights, folder)}
        save_file(found, file)
        print(f"{name}: {time.process_time() - began:.0f} core seconds for maps and features", flush=True)
    tensors = load_file(file)
    pool, val = (_examples(tensors, part) for part in ("pool", "val"))
    return Seen(dataset, tensors["pooled"], pool, val, [x.shape[1] for x in pool[0].maps])


def evenly(records: Sequence[Record], most: int) -> tuple[Record, ...]:
    """At most so many of the records, at equal distances."""
    step = -(-len(records) // most)
    return tuple(records[::step])


def _examples(tensors: dict[str, Tensor], part: str) -> list[Example]:
    labels = tensors[f"{part}-label"]
    maps = [x for _, x in sorted((key, x) for key, x in tensors.items() if key.removeprefix(part).isdigit())]
    return [Example([x[i : i + 1] for x in maps], labels[i].long()) for i in range(len(labels))]


def _places(dataset: Dataset, backbone: str, weights: str) -> dict[str, Tensor]:
    """`pool<level>` and `val<level>` float16 (N, C, 1, PLACES), `pool-label` and `val-label` uint8 (N, 1, PLACES)."""
    net = build_segmenter(backbone, "mlp", len(dataset.classes), seed=0).eval()
    load_encoder(net.encoder, backbone, weights)
    assert isinstance(net.decoder, MLP)
    head, maps = net.decoder, Maps.below(Path(), net.encoder, backbone, SIDE)
    found: dict[str, Tensor] = {}
    rng = torch.Generator().manual_seed(0)
    for part, records in (("pool", dataset.labeled), ("val", dataset.val)):
        rows = []
        for record in records:
            label_hw = _labels(record, dataset, net.multiple, head.patches)
            at = torch.randint(label_hw.numel(), (PLACES,), generator=rng)
            whole = [head.upsample(x.float(), label_hw.shape) for x in maps.of(record)]
            values = [x.flatten(2)[:, :, at][:, :, None].half() for x in whole]
            rows.append([*values, label_hw.flatten()[at][None, None].byte()])
        *levels, label = [torch.cat(column) for column in zip(*rows, strict=True)]
        found |= {f"{part}{level}": x for level, x in enumerate(levels)} | {f"{part}-label": label}
    return found


def _labels(record: Record, dataset: Dataset, multiple: int, patches: bool) -> Tensor:
    _, mask = load_labeled(record, len(dataset.classes), dataset.ignore)
    height, width = reduced_size(record.height, record.width, dataset.long_side)
    return sampled(torch.from_numpy(mask), (fit_side(height, multiple), fit_side(width, multiple)), patches)


def _pooled(dataset: Dataset, backbone: str, weights: str, folder: Path) -> Tensor:
    net = build_encoder(backbone, output_stride=32).eval()
    load_encoder(net, backbone, weights)
    features = Features(folder / f"{dataset.name}-{backbone}.f16", len(dataset.labeled), net.channels[-1])
    extract(net, dataset.labeled, features, mean=net.mean, std=net.std, device=torch.device("cpu"))
    return features.read(slice(None))
