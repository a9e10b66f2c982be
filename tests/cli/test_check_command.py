"""`semiseg check` as typed: what it prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from semiseg_cli.cli import console, main
from semiseg_cli.cli.check import _findings
from semiseg_cli.stages.prepare import prepare_shapes


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    prepare_shapes(tmp_path, labeled=3, unlabeled=2, val=2, size=48)
    yield tmp_path
    console.state = console.State()


def test_sound_data(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--root", str(root), "-l", "2"]) == 0
    out, err = capsys.readouterr()
    assert "shapes: 3 labeled and 2 unlabeled images, 2 for validation" in out
    assert "partition: own partition, seed 0, 2 of 3 (classes); 3 unlabeled" in out
    assert "nothing is wrong" in out
    assert "error" not in err


def test_without_a_picture(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["check", "--root", str(root), "-l", "2", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["result"]
    monkeypatch.setattr("semiseg_cli.stages.check.look", None)
    assert main(["check", "--root", str(root), "-l", "2", "--fast", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == whole | {"fast": True}
    assert main(["check", "--root", str(root), "--fast"]) == 0
    assert "nothing is wrong, as far as the index says" in capsys.readouterr().out
    for name in ("images/train_0004.png", "masks/train_0001.png", "images/val_0000.png"):
        (root / "shapes" / name).unlink()
    assert main(["check", "--root", str(root), "--fast", "--json"]) == 7
    problems = json.loads(capsys.readouterr().out)["result"]["problems"]
    assert {each["what"] for each in problems} == {"file that is not there"}
    assert [each["detail"].split("/shapes/")[1] for each in problems] == [
        "masks/train_0001.png", "images/train_0004.png", "images/val_0000.png"
    ]  # fmt: skip


def test_something_wrong(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "shapes" / "images" / "val_0001.png").write_bytes((root / "shapes/images/train_0004.png").read_bytes())
    (root / "shapes" / "masks" / "train_0001.png").unlink()
    assert main(["check", "shapes", "--root", str(root)]) == 7
    out, err = capsys.readouterr()
    assert "nothing is wrong" not in out
    assert "error: shapes: 2 things are wrong" in err
    assert "1 x picture both trained on and validated on: train train_0004 = val val_0001" in err
    assert main(["check", "shapes", "--root", str(root), "--json"]) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "check"
    assert {each["what"] for each in document["result"]["problems"]} == {
        "unreadable mask", "picture both trained on and validated on"
    }  # fmt: skip


def test_a_thousand_equal_pictures_do_not_fill_the_screen() -> None:
    [line] = _findings([{"what": "equal pictures", "detail": " = ".join(f"train image_{n}" for n in range(1000))}])
    assert line.startswith("1 x equal pictures: train image_0 = train image_1")
    assert line.endswith("...")
    assert len(line) < 250


def test_a_long_path_is_whole() -> None:
    path = f"/data/{'folder  of mine/' * 20}mask.png"
    assert _findings([{"what": "unreadable mask", "detail": path}]) == [f"1 x unreadable mask: {path}"]


def test_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "park", "--root", str(tmp_path)]) == 3
    assert "semiseg prepare folder" in capsys.readouterr().err
