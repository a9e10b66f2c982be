"""`semiseg pair` as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("semiseg_cli.stages.pair.SHOWN", 1)
    shutil.copytree(shapes_root, tmp_path / "data")
    return tmp_path / "data"


def run(root: Path, *words: str) -> int:
    return main(["pair", *words, "--encoder", "tiny", "--device", "cpu", "--root", str(root)])


def test_pairs_are_written_and_found_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "-l", "4") == 0
    said = capsys.readouterr()
    assert "the 4 nearest of 4 labeled images for each of 10 unlabeled ones" in said.out
    assert "14 images encoded" in said.out
    assert "from scratch" in said.err
    assert run(root, "shapes", "-l", "4", "--json") == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    assert (result["cached"], result["encoded"], result["k"]) == (True, 0, 4)
    assert Path(result["pairs"]).is_file()
    assert all(Path(sheet).is_file() for sheet in result["sheets"])


def test_bad_input_has_its_exit_code_and_a_way_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "-l", "4", "--k", "5") == 2
    assert "--k 4" in capsys.readouterr().err
    assert run(root, "streets", "-l", "4") == 3
    assert run(root, "-l", "4", "--weights", "absent.safetensors") == 5
    code = main([
        "train", "-m", "guidedmix", "-l", "4", "-b", "tiny", "-s", "method.pairing=precomputed", "--dry-run",
        "--root", str(root),
    ])  # fmt: skip
    assert code == 3
    said = capsys.readouterr().err
    assert f"semiseg pair shapes --labeled 4 --encoder tiny --weights none --root {root}" in said.replace("\n", " ")
