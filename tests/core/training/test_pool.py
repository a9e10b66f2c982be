"""All images on the device: micro-batches are the loader's, runs are those with a loader, and what does not fit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data import decode
from semiseg_cli.core.data.decode import Pixels
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import Plan, loader, serve
from semiseg_cli.core.errors import BadFile, DeviceError, Interrupted
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.training import pool as module
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.pool import Placed, Pool
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import open_config, resume, train

CPU = torch.device("cpu")
PLAN = Plan(
    seed=3, start=1, steps=4, batch=4, micro=2, crop=40, scale=(0.5, 2.0), rotation=15.0,
    inputs=frozenset({"unlabeled", "mix", "second", "paired"}), pairs=(5, 0, 1, 2, 3, 4, 5, 3),
)  # fmt: skip
LOADED = replace(PLAN, micro=1, inputs=frozenset({"unlabeled", "mix"}))
ALONE = replace(LOADED, inputs=frozenset({"mix"}))


@pytest.mark.parametrize("plan", [PLAN, LOADED, ALONE], ids=["second draws", "partners of others", "labeled alone"])
@pytest.mark.parametrize("long_side", [0, 30])
def test_micro_batches_are_the_loaders(plan: Plan, long_side: int, shapes_root: Path) -> None:
    partition = resolve_partition(load_dataset(shapes_root, "shapes"), "")
    labeled, others = (Pixels(records, 0, long_side) for records in (partition.labeled, partition.unlabeled))
    pool = Pool(labeled, others if "unlabeled" in plan.inputs else None, CPU)
    theirs = list(loader(plan, partition.labeled, partition.unlabeled, long_side=long_side))
    told = list(serve(Placed(plan, pool)))
    assert len(told) == len(theirs) == 3 * plan.accumulation
    assert max(sum(x.nbytes for x in host.values()) for host in told) < 100 * 4 * plan.micro
    for host, batch in zip(told, theirs, strict=True):
        ours = pool.cut(host, plan.crop)
        assert ours.keys() == batch.keys()
        for name, value in batch.items():
            assert ours[name].dtype == value.dtype
            apart = (ours[name].int() - value.int()).abs().max()
            assert apart <= (1 if name.endswith("_image") else 0), name


def test_what_does_not_fit_is_refused_with_the_numbers(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 48 * 48 * (6 * 4 + 8 * 3)
    monkeypatch.setattr(module, "free_memory", lambda: needed - 1)
    resolved, places = configured("unimatch", {"data.cache": "device"}), {"data_root": shapes_root, "device": "cpu"}
    with pytest.raises(DeviceError) as error:
        train(resolved, runs_root=tmp_path, **places)
    assert f"14 images do not fit on the device: they need {needed:,} bytes, and {needed - 1:,} are free" in str(error)
    assert error.value.fix.startswith("-s data.cache=host")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "free_memory", lambda: needed)
    assert open_config(resolved.config, shapes_root, World(), Silent()).pool() is not None


def test_a_file_that_cannot_be_read_is_named_before_there_is_a_run(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(path: Path, *_: Any) -> Any:
        raise BadFile(f"cannot read {path}", fix="")

    monkeypatch.setattr(decode, "decode_image", decoded)
    resolved = configured("supervised", {"data.cache": "device"})
    with pytest.raises(BadFile) as error:
        train(resolved, data_root=shapes_root, runs_root=tmp_path, device="cpu")
    assert "semiseg check shapes" in error.value.fix
    assert list(tmp_path.iterdir()) == []


class Stop(Silent):
    def advance(self, step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_runs_learn_what_they_learn_with_a_loader(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that was stopped goes on as if it had not been. Every image is decoded once, none within a step.

    Images are neither scaled nor turned: between pixels OpenCV 5 differs by a grey level, which training amplifies.
    """
    decoded, real = list[Path](), decode.decode_image
    monkeypatch.setattr(decode, "decode_image", lambda path, *more: (decoded.append(path), real(path, *more))[1])
    changes = {"train.micro_batch": 1, "train.scale": (1.0, 1.0), "train.eval_every": 0, "train.steps": 6}
    places: dict[str, Any] = {"data_root": shapes_root, "runs_root": tmp_path, "device": "cpu"}
    host, device, halves = (tmp_path / name for name in ("host", "device", "halves"))
    train(configured("unimatch", changes), out=host, **places)
    decoded.clear()
    train(configured("unimatch", changes | {"data.cache": "device"}), out=device, **places)
    trained = [path for path in decoded if path.name.startswith("train")]
    assert len(trained) == len(set(trained)) == 6 + 8
    with pytest.raises(Interrupted):
        train(configured("unimatch", changes | {"data.cache": "device"}), out=halves, screen=Stop(), **places)
    resume(halves, data_root=shapes_root, device="cpu")
    rows = [[row["loss"] for row in read_metrics(run) if "loss" in row] for run in (host, device, halves)]
    assert rows[1] == rows[2]
    assert rows[0] == pytest.approx(rows[1], rel=1e-6)


def test_pictures_need_no_images_on_the_device(configured: Callable[..., Resolved], shapes_root: Path) -> None:
    session = open_config(configured("unimatch", {"data.cache": "device"}).config, shapes_root, World(), Silent())
    host = next(session.batches(session.plan, few=True))
    assert host["unlabeled_image"].shape == (2, 33, 33, 3)
    assert session.train.pool is None
