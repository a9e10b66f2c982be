"""A small prepared dataset and a run directory with untrained networks, for what measures and predicts. Read only."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from semiseg_cli.core.data.index import write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import save_network

CLASSES = ("sky", "tree", "road")
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


@pytest.fixture(scope="session")
def park(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset `park`: 2 training images, one with a mask, and 3 val images of two sizes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (root / "park").mkdir()

    def record(name: str, height: int, width: int, masked: bool = True) -> Record:
        image, mask = root / "park" / f"{name}.jpg", root / "park" / f"{name}.png"
        blocks = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        cv2.imwrite(str(image), blocks.repeat(8, 0).repeat(8, 1))
        cv2.imwrite(str(mask), rng.choice([0, 1, 2, 255], (height, width)).astype(np.uint8))
        return Record(name, image, mask if masked else None, height, width)

    write_dataset(
        Dataset(
            "park",
            "folder",
            root / "park",
            CLASSES,
            ((0, 0, 0), (9, 99, 9), (50, 50, 50)),
            train=(record("t0", 40, 48), record("t1", 40, 48, masked=False)),
            val=(record("v0", 40, 48), record("v1", 48, 40), record("v2", 40, 48)),
            window=64,  # not what the checkpoint was trained under
        ),
        {},
    )
    return root


@pytest.fixture(scope="session")
def park_run(park: Path) -> Path:
    """A run directory whose `best` and `last` differ."""
    meta = {
        "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
        "data": {"name": "park", "kind": "folder", "classes": list(CLASSES), "window": 36},
        "partition": {"name": "own partition, seed 0, 1 of 2", "fingerprint": "f00d", "protocol": "classic"},
        "normalise": {"mean": MEAN, "std": STD},
        "config": {"eval.window": "auto", "eval.stride": 2 / 3, "eval.batch": 2, "train.amp": "auto"},
        "method": "unimatch",
        "step": 30,
    }
    for seed, name in enumerate(("best", "last")):
        net = build_segmenter("tiny", "deeplabv3plus", 3, seed=seed)
        with torch.no_grad():  # running statistics, so that it does not give one class everywhere
            for step in range(30):
                noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
                net(noise.repeat_interleave(8, 2).repeat_interleave(8, 3))
        save_network(park / "run" / f"{name}.safetensors", net, meta)
    return park / "run"
