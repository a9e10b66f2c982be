"""`semiseg predict` as typed: what it asks of the stage, what it prints, and its exit code for unreadable images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.predict as stage
from semiseg_cli.cli import main

FOUND: dict[str, Any] = {
    "images": 3,
    "failed": [],
    "out": "out",
    "labels": "out/labels",
    "overlays": "out/overlays",
    "classes": ["sky", "[red] tree"],
    "checkpoint": "runs/a/best.safetensors",
    "window": 0,
    "long_side": 0,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the stage, which answers with FOUND and the failures in `answer`."""
    seen: dict[str, Any] = {"answer": {}}

    def answer(checkpoint: Path, images: list[Path], **how: Any) -> dict[str, Any]:
        seen.update(how, checkpoint=checkpoint, images=images)
        return FOUND | seen["answer"]

    monkeypatch.setattr(stage, "predict_images", answer)
    return seen


def test_options(asked: dict[str, Any]) -> None:
    assert main(["predict", "runs/a", "x.jpg", "photos"]) == 0
    assert (asked["checkpoint"], asked["images"]) == (Path("runs/a"), [Path("x.jpg"), Path("photos")])
    assert (asked["out"], asked["overlay"], asked["window"]) == (Path("predictions"), True, "auto")
    assert (asked["long_side"], asked["scales"], asked["flip"], asked["device"]) == (None, (1.0,), False, "auto")
    line = "predict c x -o d --no-overlay --window 64 --long-side 0 --scales 1/2,1 --flip --device cpu"
    assert main(line.split()) == 0
    assert (asked["out"], asked["overlay"], asked["window"]) == (Path("d"), False, "64")
    assert (asked["long_side"], asked["scales"], asked["flip"], asked["device"]) == (0, (0.5, 1.0), True, "cpu")


@pytest.mark.usefixtures("asked")
def test_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "c", "x"])
    text = capsys.readouterr().out
    assert "3 images predicted: labels in out/labels" in text
    assert "0 sky  1 [red] tree" in text
    main(["predict", "c", "x", "--json"])
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "predict", "result": FOUND}


def test_unreadable_images_exit_with_3_after_the_result(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["answer"] = {"failed": [f"photos/{number:02}.jpg: truncated" for number in range(25)]}
    assert main(["predict", "c", "x"]) == 3
    out, err = capsys.readouterr()
    assert "3 images predicted" in out
    assert "25 of 28 images cannot be read" in err
    assert "photos/19.jpg: truncated" in err
    assert "photos/20.jpg" not in err
    assert "and 5 more" in err
    assert main(["predict", "c", "x", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert len(document["result"]["failed"]) == 25


@pytest.mark.usefixtures("asked")
def test_what_is_typed_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "c"]) == 2
    assert main(["predict", "c", "x", "--scales", "big"]) == 2
    assert "--scales" in capsys.readouterr().err
