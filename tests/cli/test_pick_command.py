"""`semiseg pick` as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main
from semiseg_cli.cli.pick import _then
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.partitions.splits import resolve_partition


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
    then = "semiseg prepare folder --labeled picked/images --masks masks --name mine"  # `shapes` itself takes none
    assert "draw them into masks/: annotations of LabelMe" in said
    assert f"then, with their masks: {then}" in said
    assert main([*words, "shapes", "-o", "mine", "--json", "-q"]) == 0
    out = capsys.readouterr()
    found: dict[str, Any] = json.loads(out.out)["result"]
    assert (found["out"], found["asked"], out.err) == ("mine", 3, "")
    assert Path("mine/picked.txt").read_text() == Path("picked/picked.txt").read_text()


def test_photos_whose_masks_are_there_are_trained_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = root / "shapes" / "index.tsv"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if "\ttrain\t" not in line or "masks/" in line))
    assert main(["pick", "-n", "2", "-l", "2", "--encoder", "tiny", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "then: semiseg train -d shapes -l picked/picked.txt"
    assert len(resolve_partition(load_dataset(root, "shapes"), "picked/picked.txt").labeled) == 2


def test_masks_of_ones_own_photos_come_by_an_update_and_shards_are_made_anew(tmp_path: Path) -> None:
    (tmp_path / "mine-shards").mkdir()
    made = '[shards]\nmade_of = "mine"\nphotos = 1\n'
    (tmp_path / "mine-shards" / "dataset.toml").write_text(f'kind = "folder"\n{made}')
    found = {"have_masks": False, "kind": "folder", "masks": "drawn", "data": "mine"}
    update = f"then, with their masks in drawn: semiseg prepare folder --name mine --update --root {tmp_path}"
    assert _then(found, tmp_path) == [update]
    (said,) = _then(found | {"data": "mine-shards"}, tmp_path)
    assert said.startswith(f"{update} && mv {tmp_path}/mine-shards ")
    assert said.endswith(f"&& semiseg shard mine --root {tmp_path}")


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
