"""`semiseg probe` as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shapes_root, tmp_path / "data")
    return tmp_path / "data"


def test_a_probe_is_trained_and_evaluated(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "-l", "4", "-b", "tiny", "--steps", "2", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "runs/shapes-4-probe-tiny-s0: mlp on tiny, own partition, seed 0, 4 of 6" in said.out
    assert "features of 4 images" in said.out
    assert "on 3 validation images" in said.out
    assert "next: semiseg predict runs/shapes-4-probe-tiny-s0 photos" in said.out
    assert "MB an image, in data/shapes/features/" in said.err
    assert "encoder efficientnet_lite0" not in said.err
    assert main([*words, "shapes", "--head", "linear", "--side", "40", "-o", "mine", "--json", "-q"]) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)["result"]
    assert (found["run"], found["head"], found["long_side"], said.err) == ("mine", "linear", 40, "")
    assert main(["eval", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["miou"] == found["last"]["miou"]


def test_what_is_chosen_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "-l", "4", "--weights", "absent.safetensors"]) == 5
    said = capsys.readouterr().err
    assert "encoder efficientnet_lite0" in said
    assert "-b takes another" in said
    assert main(["probe", "-l", "40"]) == 3
    assert main(["probe", "-b", "tiny", "--side", "8"]) == 2
