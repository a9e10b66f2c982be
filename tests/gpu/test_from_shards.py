"""Training on CUDA from shards: what the same photos give in files, in the same order."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.shards import member
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.shard import Asked, shard
from semiseg_cli.stages.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with `shapes-shards`, and `loose`, which is the same with every photo in a file that tar took out."""
    root = tmp_path / "data"
    prepare_shapes(root, labeled=6, unlabeled=40, val=3, size=48)
    dataset = shard(root, "shapes", asked=Asked(size=0.02))  # megabytes: three or four photos

    def taken_out(record: Record) -> Record:
        photo = member(record.image)
        if photo is None:
            return record
        with tarfile.open(photo.shard) as tar:
            tar.extract(photo.name, root / "loose", filter="data")
        return replace(record, image=root / "loose" / photo.name, bytes=0)

    train = [taken_out(record) for record in dataset.train]
    files = replace(dataset, name="loose", root=root / "loose", train=train)
    write_dataset(files, {"shards": {"photos": dataset.block}})
    return root


def test_a_run_from_shards_is_that_from_files(root: Path, configured: Callable[..., Resolved], tmp_path: Path) -> None:
    def run(name: str, workers: int) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        changes = {"data.name": name, "data.labeled": "3", "train.deterministic": True, "train.workers": workers}
        config = configured("fixmatch", {"method.tau": 0.0, **changes})
        train(config, data_root=root, runs_root=tmp_path, out=tmp_path / name, device="cuda")
        rows = [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(tmp_path / name)]
        return rows, load_file(tmp_path / name / "last.safetensors")

    first = [load_dataset(root, name).pool[0].image for name in ("shapes-shards", "loose")]
    assert [member(image) is not None for image in first] == [True, False]
    (rows, ours), (others, theirs) = run("shapes-shards", 2), run("loose", 0)
    assert rows == others
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
