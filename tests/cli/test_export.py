"""`semiseg export` as typed: a network's file and its card, of a run, a checkpoint, or the newest run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_small import IS_TINY

from semiseg_cli import load
from semiseg_cli.cli import main
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.stages.train import train


@pytest.fixture
def run(tmp_path: Path, shapes_root: Path, configured: Callable[..., Resolved]) -> Path:
    changes = {"train.steps": 1, "train.eval_every": 0}
    out = tmp_path / "runs" / "a"
    train(configured("supervised", IS_TINY | changes), data_root=shapes_root, runs_root=tmp_path, out=out)
    return out


def test_a_run_a_file_and_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMISEG_RUNS", raising=False)
    assert main(["export", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("a.safetensors, ")
    origin = "encoder: began with random weights"
    assert said.endswith(f" MiB, from {run / 'best.safetensors'}\nmodel card: a.md\n{origin}\n")
    assert main(["export", str(run / "last.safetensors"), "-o", "b.safetensors"]) == 0
    assert main(["export", "-o", "c.safetensors"]) == 0
    assert "the newest run with a network: runs/a" in capsys.readouterr().err
    assert load("a.safetensors").classes == load("b.safetensors").classes == load("c.safetensors").classes


def test_half_is_half_as_large_and_json_is_one_document(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for words in ([], ["--half"]):
        assert main(["export", str(run), "-o", str(tmp_path / "m.safetensors"), "--json", *words]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [document["command"] for document in found] == ["export", "export"]
    whole, half = (document["result"] for document in found)
    assert (whole["half"], half["half"]) == (False, True)
    assert half["bytes"] < 0.6 * whole["bytes"]
