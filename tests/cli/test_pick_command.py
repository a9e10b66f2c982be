"""`semiseg pick` as typed."""

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


def test_what_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pick", "-n", "3", "--encoder", "tiny", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "shapes: 3 of 8 photos without a label" in said
    assert "medoids of k-means on pooled features of tiny around 6 labeled photos" in said
    assert "in the order of use: picked/picked.txt; the photos: picked/images" in said
    assert "then, with their masks: semiseg train -d shapes -l picked/picked.txt" in said
    assert main([*words, "shapes", "-o", "mine", "--json", "-q"]) == 0
    out = capsys.readouterr()
    found: dict[str, Any] = json.loads(out.out)["result"]
    assert (found["out"], found["asked"], out.err) == ("mine", 3, "")
    assert Path("mine/picked.txt").read_text() == Path("picked/picked.txt").read_text()


def test_exit_codes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pick", "--encoder", "tiny", "--device", "cpu"]
    assert main(words) == 3  # twenty of eight
    assert "-n 8 or fewer" in capsys.readouterr().err
    assert main([*words, "-n", "2", "--prelabel"]) == 2
    assert main([*words, "-n", "2", "--run", "absent"]) == 5
    assert main([*words, "-n", "0"]) == 2
    images = sorted((root / "shapes" / "images").rglob("*.png"))[:3]
    for number, image in enumerate(images):
        Path("photos").mkdir(exist_ok=True)
        shutil.copy(image, f"photos/{number}.png")
    Path("photos/x.png").write_bytes(b"no image")
    capsys.readouterr()
    assert main([*words, "photos", "-n", "2"]) == 3
    said = capsys.readouterr()
    assert "photos: 2 of 3 photos" in said.out
    assert "then, with their masks: semiseg prepare folder --labeled photos --masks masks --name mine" in said.out
    assert "draw them into masks/: annotations of LabelMe" in said.out
    assert "1 of 4 photos cannot be read" in said.err
