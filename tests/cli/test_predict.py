"""`semiseg predict` as typed, with an untrained network: what it writes and says, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_cli.cli import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        blocks = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), blocks)
    return tmp_path / "photos"


@pytest.fixture
def typed(
    park_run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """What `predict` prints for the photos and these options; the exit code must be as given."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(["predict", str(park_run), "photos", "--device", "cpu", *words]) == code
        return capsys.readouterr()

    return run


def labels(folder: Path) -> dict[str, np.ndarray]:
    return {file.stem: cv2.imread(str(file)) for file in sorted((folder / "labels").iterdir())}


def test_labels_and_overlays_of_every_image(typed: Any, tmp_path: Path) -> None:
    said = typed().out
    assert "2 images predicted: labels in predictions/labels" in said
    assert "0 sky  1 tree  2 road" in said
    assert list(labels(tmp_path / "predictions")) == ["a", "b"]
    assert (tmp_path / "predictions" / "overlays" / "a.jpg").is_file()


def test_another_folder_and_no_overlays(typed: Any, tmp_path: Path) -> None:
    assert "overlays" not in typed("-o", "d", "--no-overlay").out
    assert sorted(file.name for file in (tmp_path / "d").iterdir()) == ["classes.json", "labels"]


def test_confidence_and_probabilities_as_typed(typed: Any, tmp_path: Path) -> None:
    said = typed("-o", "d", "--confidence", "--probabilities", "--no-overlay").out
    assert "confidence in d/confidence" in said
    assert "probabilities in d/probabilities" in said
    probs = np.load(tmp_path / "d" / "probabilities" / "a.npz")["probabilities"]
    found = cv2.imread(str(tmp_path / "d" / "confidence" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found / 65535, probs.max(2), atol=1e-3)


@pytest.mark.parametrize("words", ["--window none", "--long-side 48", "--scales 1/2,1", "--flip"])
def test_an_option_changes_the_labels(typed: Any, tmp_path: Path, words: str) -> None:
    typed("-o", "plain")
    typed("-o", "other", *words.split())
    plain, other = labels(tmp_path / "plain"), labels(tmp_path / "other")
    assert any(not np.array_equal(plain[name], other[name]) for name in plain)


def test_json_is_one_document(typed: Any, park_run: Path) -> None:
    found = json.loads(typed("--json").out)
    assert (found["schema"], found["command"]) == (1, "predict")
    wanted = {"images": 2, "failed": [], "checkpoint": str(park_run / "best.safetensors"), "window": 36}
    assert {key: found["result"][key] for key in wanted} == wanted


def test_unreadable_images_exit_with_3_after_the_result(typed: Any, photos: Path) -> None:
    for number in range(25):
        (photos / f"broken{number:02}.jpg").write_bytes(b"no image")
    said = typed(code=3)
    assert "2 images predicted" in said.out
    assert "25 of 27 images cannot be read" in said.err
    assert "broken19.jpg: " in said.err
    assert "broken20.jpg" not in said.err
    assert "and 5 more" in said.err
    assert len(json.loads(typed("--json", code=3).out)["result"]["failed"]) == 25


@pytest.mark.parametrize(
    "words", [("--scales", "big"), ("--window", "wide"), ("--long-side", "-1"), ("--tolerance", "2")]
)
def test_what_is_typed_wrongly(typed: Any, words: tuple[str, str]) -> None:
    assert words[0] in typed(*words, code=2).err


def test_no_network_is_the_newest_run(
    park: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of `park` has no config.toml, so a copy of it is made a run here."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(park / "run", "runs/mine")
    Path("runs/mine/config.toml").touch()
    for words in (["photos"], ["photos/a.png", "photos/b.png"], ["newest", "photos"], ["runs/mine", "photos"]):
        assert main(["predict", *words, "--json"]) == 0
        said = capsys.readouterr()
        found = json.loads(said.out)["result"]
        assert (found["images"], found["checkpoint"]) == (2, "runs/mine/best.safetensors")
        assert ("newest run with a network: runs/mine" in said.err) == (words[0] != "runs/mine")


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("{run}", "no image is named", 2),
        ("{run}/best.safetensors", "no image is named", 2),
        ("absent.safetensors photos", "there is no absent.safetensors", 5),
        ("runs/typo photos", "there is no runs/typo", 5),
        ("absent", "there is no file or folder absent", 3),
        ("photos", "there is no run with a network in runs", 2),
    ],
)
def test_what_is_missing_is_named(
    park_run: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: str, said: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(photos.parent)
    if words == "absent":
        shutil.copytree(park_run, "runs/mine")
        Path("runs/mine/config.toml").touch()
    assert main(["predict", *words.format(run=park_run).split()]) == code
    assert said in capsys.readouterr().err


def test_labels_as_polygons_as_typed(typed: Any, tmp_path: Path) -> None:
    said = typed("-o", "d", "--format", "yolo", "--tolerance", "0", "--no-overlay").out
    assert "labels as polygons in d/yolo" in said
    lines = (tmp_path / "d" / "yolo" / "labels" / "a.txt").read_text().split("\n")[:-1]
    index = np.array(Image.open(tmp_path / "d" / "labels" / "a.png"))
    assert {int(line.split()[0]) for line in lines} == set(np.unique(index).tolist())
    assert all(len(line.split()) % 2 == 1 and len(line.split()) >= 7 for line in lines)
