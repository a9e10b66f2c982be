"""A run repeated from its directory: bit by bit the same, or refused with what is another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main
from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.repeat import repeated, same_weights
from semiseg_cli.stages.train import train


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare_shapes(tmp_path / "data", labeled=6, unlabeled=8, val=3, size=48)
    return tmp_path / "data"


@pytest.fixture
def start(configured: Callable[..., Resolved], root: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, changes: dict[str, Any] | None = None, **options: Any) -> Path:
        resolved = configured("fixmatch", {"data.labeled": "3", "train.seed": 5, "train.steps": 3} | (changes or {}))
        train(resolved, data_root=root, runs_root=tmp_path, out=tmp_path / name, device="cpu", **options)
        return tmp_path / name

    return make


def test_it_is_the_same_run_to_the_bit(
    start: Callable[..., Path], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint, with a split of its own and a seed; typed, without a root: the run knows where its data is."""
    first = start("first", {"train.seed": 1})
    run = start("run", init=first / "last.safetensors")
    assert main(["train", "--from", str(run), "-o", str(tmp_path / "again"), "--device", "cpu", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert (found["same_weights"], found["changed"], found["repeats"]) == (True, [], str(run))
    again = tmp_path / "again"
    assert flatten(runs.config_of(again)) == flatten(runs.config_of(run))
    rows = [[row | {"images_per_second": 0} for row in read_metrics(each)] for each in (run, again)]
    assert rows[0] == rows[1]
    assert same_weights(run, first) is False  # of another seed and beginning


def test_other_data_labels_or_first_weights_are_refused(start: Callable[..., Path], root: Path) -> None:
    init = start("first") / "last.safetensors"
    run = start("run", init=init)
    assert repeated(run, root)[1:] == (root, init)
    kept = init.read_bytes()
    init.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"began with .*first.last\.safetensors") as bad:
        repeated(run, root)
    assert bad.value.why == "it changed since"
    init.write_bytes(kept)

    partition = json.loads((run / "partition.json").read_text())
    (run / "partition.json").write_text(json.dumps(partition | {"fingerprint": "f" * 64}))
    with pytest.raises(DataError, match=r"labeled images of .* cannot be had again") as other:
        repeated(run, root)
    assert f"fingerprint: {'f' * 64} there" in other.value.why
    (run / "partition.json").write_text(json.dumps(partition))

    shutil.rmtree(root / "shapes")
    prepare_shapes(root, labeled=6, unlabeled=8, val=3, size=48, seed=1)
    with pytest.raises(DataError, match="holds something else than when"):
        repeated(run, root)


def test_a_run_of_before_says_how_to_train_with_its_settings(start: Callable[..., Path], root: Path) -> None:
    run = start("run")
    environment = json.loads((run / "environment.json").read_text())
    del environment["files"]
    (run / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(UsageError, match="does not say which files") as error:
        repeated(run, root)
    assert error.value.fix == f"semiseg train -c {run / 'config.toml'}"


@pytest.mark.parametrize(
    "words", [["--steps", "9"], ["--seed", "1"], ["--resume"], ["-s", "train.lr=1"], ["--dry-run"]]
)
def test_it_takes_no_settings(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--from", str(tmp_path / "run"), *words]) == 2
    said = capsys.readouterr().err
    assert "--from repeats a run as it was, so it takes no" in said
    assert f"semiseg train -c {tmp_path / 'run' / 'config.toml'} ..." in said
