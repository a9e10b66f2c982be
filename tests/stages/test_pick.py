"""`semiseg pick`: from a dataset and from a folder, with and without a network; what it writes, and bad input."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import BadFile, DataError, UsageError
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.inference.uncertainty import entropies
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.stages.pair import pair
from semiseg_cli.stages.pick import pick
from semiseg_cli.stages.prepare import prepare_folder
from semiseg_cli.stages.probe import probe, settings_of
from semiseg_cli.stages.update import update_folder


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shapes_root, tmp_path / "data")
    return tmp_path / "data"


def run(source: str, count: int, root: Path, **options: Any) -> dict[str, Any]:
    return pick(source, count, root=root, **{"encoder": "tiny", "device": "cpu", **options})


def ids(found: dict[str, Any]) -> list[str]:
    return [each["id"] for each in found["picked"]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight photos of two kinds and two sizes, in two folders, one of them turned by EXIF."""
    rng = np.random.default_rng(0)
    for number in range(8):
        kind, size = number % 2, (40, 60) if number < 6 else (50, 50)
        image = rng.integers(0, 60, (*size, 3)) + [[150, 20, 20], [20, 150, 90]][kind]
        file = tmp_path / "photos" / ("near" if number < 4 else "far") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6
        Image.fromarray(image.astype(np.uint8)).save(file, exif=exif)
    return tmp_path / "photos"


def test_of_a_dataset(root: Path) -> None:
    found = run("shapes", 4, root)
    dataset = load_dataset(root, "shapes")
    without = {record.id for record in dataset.train if record.mask is None}
    assert len(set(ids(found)) & without) == 4
    assert (found["labeled"], found["pool"], found["out"]) == (6, 8, "picked")
    assert Path(found["list"]).read_text("utf-8").split() == ids(found)
    files = sorted(Path(found["images"]).rglob("*.*"))
    assert {file.stem for file in files} == set(ids(found))
    assert all(file.is_symlink() and file.is_file() for file in files)
    assert [Image.open(sheet).width > 500 for sheet in found["sheets"]] == [True]
    again, other = run("shapes", 4, root, copy=True), run("shapes", 2, root, out=Path("mine"))
    assert (ids(again), again["out"], again["features"]["computed"]) == (ids(found), "picked-2", 0)
    assert not any(file.is_symlink() for file in Path(again["images"]).rglob("*.*"))
    assert (other["out"], len(other["picked"])) == ("mine", 2)
    assert sum(each["stands_for"] for each in other["picked"]) <= 6


def test_features_are_those_of_pair(root: Path) -> None:
    pair(root, "shapes", "4", encoder="tiny", device="cpu")
    assert run("shapes", 2, root)["features"]["computed"] == 0


def test_the_list_is_a_partition_when_it_has_masks(root: Path) -> None:
    found = run("shapes", 2, root, labeled="3")
    assert (found["labeled"], found["pool"]) == (3, 11)
    dataset = load_dataset(root, "shapes")
    masked = [id for id in ids(found) if id in {record.id for record in dataset.labeled}]
    Path("two.txt").write_text("\n".join(masked or [dataset.labeled[0].id]), "utf-8")
    assert resolve_partition(dataset, "two.txt").labeled


def test_a_folder_of_photos(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("photos", 2, tmp_path / "data")
    assert {int(id.rpartition("/")[2]) % 2 for id in ids(found)} == {0, 1}  # one of each kind
    assert found["kind"] is None
    assert Path(found["images"], f"{ids(found)[0]}.png").read_bytes() == (photos / f"{ids(found)[0]}.png").read_bytes()
    assert not list(photos.rglob("*.f16"))
    (photos / "far" / "broken.png").write_bytes((photos / "far" / "7.png").read_bytes()[:-30])
    (photos / "far" / "none.jpg").write_bytes(b"no image")
    more = run("photos", 8, tmp_path / "data")
    assert more["pool"] == 8
    assert len(more["picked"]) + more["alike"] == 8  # noise of one mean is nearly one picture to this encoder
    assert [Path(line.partition(":")[0]).name for line in sorted(more["unreadable"])] == ["broken.png", "none.jpg"]


def test_bad_input(photos: Path, root: Path) -> None:
    with pytest.raises(DataError, match="9 photos asked for, photos has 8"):
        run("photos", 9, root)
    with pytest.raises(DataError, match="8 without a label"):
        run("shapes", 9, root)
    Path("empty").mkdir()
    with pytest.raises(DataError, match="no image in empty"):
        run("empty", 1, root)
    with pytest.raises(DataError, match="nowhere"):
        run("nowhere", 1, root)
    with pytest.raises(UsageError, match="for prepared datasets"):
        run("photos", 1, root, labeled="3")
    with pytest.raises(UsageError, match="needs a network"):
        run("photos", 1, root, prelabel=True)
    with pytest.raises(UsageError, match="--format coco"):
        run("photos", 1, root, format="coco")
    Path("taken").mkdir()
    Path("taken", "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        run("photos", 1, root, out=Path("taken"))
    index = root / "shapes" / "index.tsv"
    lines = index.read_text("utf-8").splitlines(keepends=True)
    index.write_text("".join(line for line in lines if "\ttrain\t" not in line or "masks/" in line), "utf-8")
    with pytest.raises(DataError, match="every training image of shapes is labeled"):
        run("shapes", 1, root)


def test_a_broken_file_of_a_dataset_stops(root: Path) -> None:
    load_dataset(root, "shapes").train[-1].image.write_bytes(b"no image")
    with pytest.raises(BadFile) as caught:
        run("shapes", 2, root)
    assert "semiseg check shapes" in caught.value.fix
    assert not Path("picked").exists()


def test_identical_photos_are_one(photos: Path, root: Path) -> None:
    for number in range(5):
        Path("same").mkdir(exist_ok=True)
        shutil.copy(photos / "near" / "0.png", f"same/{number}.png")
    said = list[str]()
    found = run("same", 3, root, note=said.append)
    assert (ids(found), found["alike"], found["picked"][0]["same"]) == (["0"], 4, 4)
    assert any(line.startswith("1 instead of 3") for line in said)


def test_with_a_network(root: Path, photos: Path) -> None:
    trained = probe(
        settings_of({"data.name": "shapes", "model.backbone": "tiny", "train.steps": 20}), data_root=root,
        runs_root=Path("runs"), device="cpu",
    )  # fmt: skip
    network = Path(trained["run"]) / "last.safetensors"
    found = run("shapes", 3, root, network=network, prelabel=True, format="labelme")
    assert all(each["doubt"] > 0 for each in found["picked"])
    assert "unsure" in found["rule"]
    assert sorted(file.stem for file in Path(found["labels"]).glob("*.png")) == sorted(ids(found))
    assert len(list(Path(found["annotations"]).rglob("*.json"))) == 3
    of_folder = run("photos", 2, root, network=network, prelabel=True)
    first = f"{ids(of_folder)[0]}.png"
    with Image.open(Path(of_folder["labels"], first)) as label, Image.open(Path(of_folder["images"], first)) as image:
        assert sorted(label.size) == sorted(image.size)

    net, meta = load_network(network)
    records = load_dataset(root, "shapes").val
    predictor = Predictor.of(net, meta, next(net.parameters()).device)
    entropy, pixels = entropies(predictor, records, len(meta["data"]["classes"]))
    image = np.asarray(Image.open(records[0].image).convert("RGB"))
    probs = predictor(torch.from_numpy(image.copy())[None])[0].double().numpy()
    expected = -(probs * np.log(probs.clip(1e-30))).sum(0)
    for k in range(len(probs)):
        inside = probs.argmax(0) == k
        assert pixels[0, k] == inside.sum()
        assert entropy[0, k] == pytest.approx(expected[inside].sum(), rel=1e-4, abs=1e-6)

    table = root / "shapes" / "dataset.toml"
    table.write_text(table.read_text("utf-8").replace('"background"', '"nothing"'), "utf-8")
    with pytest.raises(DataError, match="other classes"):
        run("shapes", 2, root, network=network)


@pytest.mark.parametrize("annotated", [False, True])
def test_the_users_own_files_are_what_is_picked(photos: Path, root: Path, tmp_path: Path, annotated: bool) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(4):
        mask = np.zeros((40, 60), np.uint8)
        mask[:, 30:] = 1
        if not annotated:
            Image.fromarray(mask.T if number == 3 else mask).save(masks / f"{number}.png")
        elif number < 3:
            shape = {"label": "b", "points": [[30, 0], [60, 0], [60, 40], [30, 40]]}
            (masks / f"{number}.json").write_text(json.dumps({"shapes": [shape]}))
    other = np.zeros((40, 60, 3), np.uint8)
    other[:, ::2] = 0, 0, 255  # like none of the others
    Image.fromarray(other).save(photos / "far" / "8.png")
    Path("classes.txt").write_text("background\nb\n")
    prepare_folder(
        root, name="mine", labeled=photos / "near", masks=masks, unlabeled=photos / "far", classes=Path("classes.txt"),
        long_side=32,
    )  # fmt: skip
    found = run("mine", 4 + annotated, root)
    wanted = {photos / "far" / f"{number}.png" for number in range(4, 9)} | {photos / "near" / "3.png"}
    assert {Path(each["image"]) for each in found["picked"]} <= wanted
    assert found["picked"]
    assert found["masks"] == str(masks)
    shutil.move(photos, tmp_path / "moved")
    said = list[str]()
    assert all("data/mine" in each["image"] for each in run("mine", 2, root, note=said.append)["picked"])
    assert any("may be smaller" in line for line in said)


def test_features_are_anew_where_a_photo_is_another_under_its_name(photos: Path, root: Path, tmp_path: Path) -> None:
    """In a dataset that was updated, and in a bare folder: as many as there are, and none of before."""
    (tmp_path / "masks").mkdir()
    for number in (4, 5):
        mask = np.zeros((40, 60), np.uint8)
        mask[:, 30:] = 1
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    Path("classes.txt").write_text("a\nb\n")
    prepare_folder(
        root, name="mine", labeled=photos / "far", masks=tmp_path / "masks", unlabeled=photos / "near",
        classes=Path("classes.txt"),
    )  # fmt: skip
    sources, rows = ("mine", "photos"), {}
    for source in sources:
        assert run(source, 2, root)["features"]["computed"] > 0
        assert run(source, 2, root)["features"]["computed"] == 0
    file = photos / "near" / "0.png"
    before = file.stat()
    Image.open(photos / "near" / "1.png").save(file)  # of the other kind
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    update_folder(root, name="mine")
    for source, count in zip(sources, (7, 8), strict=True):
        found = run(source, 2, root)
        assert found["features"]["computed"] == count
        file = Path(found["features"]["file"])
        rows[source] = np.fromfile(file, np.float16).reshape(count, -1)
        file.unlink()
        file = Path(run(source, 2, root)["features"]["file"])
        assert np.array_equal(np.fromfile(file, np.float16).reshape(count, -1), rows[source])
    near0, near1 = rows["photos"][4:6]  # far/4 to far/7 come first
    assert np.array_equal(near0, near1)
