"""What training costs on this machine: a step by part, memory, arithmetic, and decoding and warping per core."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.data.warp import apply_warp, draw_warp
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.partitions.pairs import Pairs, describe_lists, folder_of, write_pairs
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.settings import Config
from semiseg_cli.core.sources import shapes
from semiseg_cli.core.training.distributed import join
from semiseg_cli.core.training.measure import measure, spread
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import open_config

SYNTHETIC = "synthetic"
HEIGHT, WIDTH, QUALITY = 375, 500, 95  # of the images made here: size and bytes (100 kB) of a usual VOC photo
LABELED, UNLABELED = 4, 8
DECODES = 60  # at least this many images are decoded and warped to time it


def bench(
    resolved: Resolved,
    *,
    data_root: Path | None,
    steps: int = 10,
    device: str = "auto",
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure `steps` training steps of a configuration, and the host's work for one unlabeled image.

    data_root: where the configuration's dataset is; None: JPEGs of 500x375 made in a temporary folder. Weights are
    random: they change no cost. Times are milliseconds, each as median, min and max.
    """
    if steps < 1:
        raise UsageError(f"{steps} steps are not possible: at least 1", fix="--steps 10")
    config = resolved.config
    with tempfile.TemporaryDirectory(prefix="semiseg-bench-") as folder:
        root = data_root or Path(folder)
        if data_root is None:
            config = with_any_pairs(config, make_photos(root))
        screen = Silent()
        session = open_config(config, root, join(device), screen)
        note(session.title)
        found = measure(session, steps, parts=True, note=note)
        records = session.partition.unlabeled or session.partition.labeled
        host = host_cost(records, config.train.crop, config.train.scale)
    return {
        "method": config.title,
        "backbone": config.model.backbone,
        "crop": config.train.crop,
        "batch": config.train.batch,
        "workers": session.workers if config.data.cache == "host" else 0,
        "cache": config.data.cache,
        "data": config.data.name,
        "steps": steps,
        **found,
        "host": host,
    }


def make_photos(root: Path) -> Dataset:
    """A prepared dataset `synthetic` of textured shapes as JPEGs, a third of them with masks."""
    folder = root / SYNTHETIC
    records = []
    for index in range(LABELED + UNLABELED):
        image, mask = (picture[:HEIGHT] for picture in shapes.draw(0, "train", index, WIDTH))
        file = folder / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        mask_file = write_image(folder / f"{index}.png", mask) if index < LABELED else None
        records.append(Record(str(index), file, mask_file, HEIGHT, WIDTH))
    dataset = Dataset(SYNTHETIC, "folder", folder, shapes.CLASSES, shapes.PALETTE, tuple(records), ())
    write_dataset(dataset, {})
    return load_dataset(root, SYNTHETIC)


def with_any_pairs(config: Config, dataset: Dataset) -> Config:
    """The configuration, and pairs where its method takes them: which labeled image is the nearest changes no cost."""
    if "paired" not in load_method(config.method_name).inputs(config.method):
        return config
    partition = resolve_partition(dataset, config.data.labeled, balance=config.data.balance, seed=config.split_seed)
    index = np.arange(len(partition.unlabeled), dtype=np.int64)[:, None] % len(partition.labeled)
    meta = describe_lists(partition) | {"encoder": "none", "metric": "none"}
    pairs = Pairs(folder_of(dataset) / "any.safetensors", index, np.zeros(index.shape, np.float32), meta)
    write_pairs(pairs)
    return replace(config, data=replace(config.data, pairs=pairs.path.name))


def host_cost(records: Sequence[Record], crop: int, scale: tuple[float, float]) -> dict[str, Any]:
    """Milliseconds to decode and to warp one image without a mask on one core, from files that are in memory already.

    The caches of a training run save the decoding from the second pass on.
    """
    rng = np.random.default_rng(0)
    decode, warp = [], []
    chosen = [records[i % len(records)] for i in range(max(DECODES, min(len(records), 4 * DECODES)))]
    with _one_thread():
        for record in chosen[: len(records)]:
            decode_record(record)  # from the disk into the page cache
        for record in chosen:
            began = time.perf_counter()
            image = decode_record(record)
            decoded = time.perf_counter()
            apply_warp(draw_warp(rng, record.height, record.width, crop, scale), image, None, crop)
            decode.append(1000 * (decoded - began))
            warp.append(1000 * (time.perf_counter() - decoded))
    sample = [a + b for a, b in zip(decode, warp, strict=True)]
    sizes = sorted((r.width, r.height) for r in chosen)
    width, height = sizes[len(sizes) // 2]
    return {
        "image": f"{width}x{height} {chosen[0].image.suffix[1:]}",
        "decode_ms": spread(decode),
        "warp_ms": spread(warp),
        "sample_ms": spread(sample),
        "decodes_per_second": 1000 / spread(decode)["median"],
        "warps_per_second": 1000 / spread(warp)["median"],
    }


@contextmanager
def _one_thread() -> Any:
    """OpenCV on one core, as in a loader process."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
