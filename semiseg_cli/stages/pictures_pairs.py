"""Pictures of pairs: unlabeled images, and the labeled ones that are most like them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core import runs
from semiseg_cli.core.data.decode import decode_mask, decode_record
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.partitions.pairs import Pairs, pairs_of
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.places import find_root
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Labels, Photo, Tile
from semiseg_cli.stages.visualize_predictions import legend_of

NEIGHBOURS = 3


def pairs_of_run(source: Path, root: Path | None, count: int, seed: int) -> tuple[Gallery, dict[str, Any]]:
    """The pairs of a run's partition: those it was trained with, else the newest there are."""
    run = source if source.is_dir() else source.parent
    config = runs.config_of(run)
    dataset = load_dataset(find_root(config.data.name, root, source), config.data.name)
    partition = resolve_partition(dataset, config.data.labeled, balance=config.data.balance, seed=config.split_seed)
    return pairs_gallery(dataset, partition, pairs_of(config, dataset, partition), count, seed)


def pairs_gallery(
    dataset: Dataset, partition: Partition, pairs: Pairs, count: int, seed: int
) -> tuple[Gallery, dict[str, Any]]:
    """`count` unlabeled images drawn by `seed`, each beside its nearest labeled image, that one's mask, and others."""
    legend = legend_of(dataset, "ignored")
    chosen = np.random.default_rng(seed).permutation(len(partition.unlabeled))[:count]
    others = min(NEIGHBOURS, pairs.index.shape[1])
    rows, images = [], []
    for place in sorted(chosen.tolist()):
        record, near = partition.unlabeled[place], [partition.labeled[i] for i in pairs.index[place, :others]]
        away = pairs.distance[place, :others].tolist()
        assert near[0].mask is not None
        tiles: list[Tile] = [Photo(decode_record(each)) for each in (record, *near)]
        tiles.insert(2, Labels(decode_mask(near[0].mask), legend.colours))
        told = ", ".join(f"{each.id} at {distance:.2f}" for each, distance in zip(near, away, strict=True))
        rows.append(Row(f"{record.id}: {told}", tiles))
        images.append({"id": record.id, "nearest": [each.id for each in near], "distance": away})
    columns = ["unlabeled", "nearest labeled", "its mask", "second", "third"][: 2 + others]
    subtitle = f"{dataset.name}: {len(rows)} of {len(partition.unlabeled)} unlabeled images, {pairs.metric} "
    subtitle += f"distance of pooled features of {pairs.encoder}; {partition.name}"
    gallery = Gallery("Nearest labeled images", subtitle, columns, rows, legend)
    return gallery, {"pairs": str(pairs.path), "images": images}
