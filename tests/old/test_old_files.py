"""Files of an earlier version: a checkpoint that is evaluated as then, a run that is resumed.

`run/` was written by commit 2bc75d8 (`config.toml` has its settings, `environment.json` its command) and stopped after
step 4 of 6. The values of large tensors were then coarsened to three each, so that they compress.
"""

from __future__ import annotations

import lzma
import math
import shutil
from pathlib import Path

import pytest

from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.train import resume

HERE = Path(__file__).parent
THEN = {"background": 0.6847360912981455, "cross": 3.5775756085566757}  # IoU that 2bc75d8 printed; 0 elsewhere


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare_shapes(root, labeled=4, unlabeled=4, val=2, size=64)
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(HERE / "run", run)
    for packed in list(run.rglob("*.xz")):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return run


def test_a_checkpoint_says_what_it_said(run: Path, root: Path) -> None:
    result = evaluate_checkpoint(run / "last.safetensors", root=root)
    assert result["iou"] == pytest.approx({name: THEN.get(name, 0.0) for name in result["iou"]}, abs=1e-4)
    assert result["step"] == 4


def test_a_run_goes_on(run: Path, root: Path) -> None:
    result = resume(run, data_root=root)
    assert result["steps"] == result["last"]["step"] == 6
    assert math.isfinite(result["last"]["miou"])
    assert (run / "result.json").is_file()
