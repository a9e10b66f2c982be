"""`semiseg pair` against a brute force on features computed image by image; what is kept and what is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_small import IS_TINY
from safetensors.torch import save_file

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.decode import decode_image
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import CheckpointError, DataError, Interrupted, UsageError
from semiseg_cli.core.inference import feature_rows, features
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.networks import MEAN, STD
from semiseg_cli.core.partitions.pairs import read_pairs, write_pairs
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.stages.pair import pair
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.train import resume, train
from semiseg_cli.stages.visualize import visualize


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(shapes_root, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semiseg_cli.stages.pair.SHOWN", 1)


def run(root: Path, labeled: str = "4", **options: Any) -> dict[str, Any]:
    return pair(root, "shapes", labeled, **{"encoder": "tiny", "device": "cpu", **options})


@torch.no_grad()
def pooled(root: Path, records: Any) -> np.ndarray:
    net = build_segmenter("tiny", "deeplabv3plus", 2, output_stride=32).encoder.eval()
    rows = []
    for record in records:
        rgb = torch.from_numpy(decode_image(record.image)).permute(2, 0, 1)[None].float() / 255
        image = (rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        rows.append(net(image)[-1].mean((2, 3))[0].half().double().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("cosine", [False, True])
def test_the_nearest_labeled_images(root: Path, cosine: bool) -> None:
    found = run(root, k=3, cosine=cosine)
    dataset = load_dataset(root, "shapes")
    partition = resolve_partition(dataset, "4")
    labeled, unlabeled = pooled(root, partition.labeled), pooled(root, partition.unlabeled)
    if cosine:
        labeled, unlabeled = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (labeled, unlabeled))
    distance = np.sqrt(((unlabeled[:, None] - labeled) ** 2).sum(2))
    pairs = read_pairs(Path(found["pairs"]))
    assert np.array_equal(pairs.index, distance.argsort(1, kind="stable")[:, :3])
    np.testing.assert_allclose(pairs.distance, np.sort(distance, 1)[:, :3], rtol=1e-2)
    assert found["mean_distance"] == pytest.approx(distance.min(1).mean(), rel=1e-2)
    assert pairs.meta["metric"] == ("cosine" if cosine else "euclidean")
    assert Path(found["page"]).is_file()
    names = {record.id for record in (*partition.labeled, *partition.unlabeled)}
    assert not names & {record.id for record in dataset.val}  # val has no place in a pairs file


def test_what_is_kept_and_what_is_made_anew(root: Path) -> None:
    first = run(root)
    again = run(root)
    assert (first["cached"], first["encoded"]) == (False, 14)
    assert (again["cached"], again["pairs"], again["sheets"]) == (True, first["pairs"], first["sheets"])
    other = run(root, "3")
    assert (other["cached"], other["encoded"]) == (False, 0)  # the features serve every split
    assert other["pairs"] != first["pairs"]
    assert run(root, k=1)["pairs"] != first["pairs"]
    net = build_segmenter("tiny", "deeplabv3plus", 2, seed=1).encoder
    save_file(net.state_dict(), root / "tiny.safetensors")
    trained = run(root, weights=str(root / "tiny.safetensors"))
    assert (trained["cached"], trained["encoded"]) == (False, 14)
    image = load_dataset(root, "shapes").train[0].image
    shutil.copy(load_dataset(root, "shapes").train[1].image, image)
    assert run(root)["encoded"] == 14


def test_a_damaged_file_is_made_anew(root: Path) -> None:
    first = run(root)
    path = Path(first["pairs"])
    whole = read_pairs(path)
    damaged: dict[str, Callable[[], Any]] = {
        "truncated": lambda: path.write_bytes(path.read_bytes()[:100]),
        "of 4 labeled images": lambda: write_pairs(replace(whole, index=whole.index + 4)),
    }
    for said, damage in damaged.items():
        damage()
        told: list[str] = []
        again = run(root, note=told.append)
        assert (again["cached"], again["encoded"], again["pairs"]) == (False, 0, str(path))
        assert any(str(path) in line and "made anew" in line and said in line for line in told)
        assert np.array_equal(read_pairs(path).index, whole.index)
    assert run(root)["cached"]


@pytest.mark.parametrize("seconds", [0.0, 1000.0])  # what is done is kept as well where nothing had been saved yet
def test_an_interrupted_run_goes_on(root: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(root)
    expected = read_pairs(Path(whole["pairs"]))
    shutil.rmtree(root / "shapes" / "pairs")
    monkeypatch.setattr(features, "TOGETHER", 2)
    monkeypatch.setattr(feature_rows, "SECONDS", seconds)
    told: list[int] = []

    @contextmanager
    def stopping(description: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(count: int = 1) -> None:
            told.append(count)
            if sum(told) > 8:
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(Interrupted, match="pairing was interrupted") as error:
        run(root, progress=stopping)
    assert error.value.fix == "the same command goes on from there"
    found = run(root)
    assert found["encoded"] == 14 - 8
    pairs = read_pairs(Path(found["pairs"]))
    assert np.array_equal(pairs.index, expected.index)
    np.testing.assert_allclose(pairs.distance, expected.distance, rtol=1e-2)
    file = next((root / "shapes" / "pairs").glob("*.f16"))
    file.write_bytes(file.read_bytes()[:-2])  # a file that is too short is begun anew
    Path(found["pairs"]).unlink()
    assert run(root)["encoded"] == 14


def test_training_takes_the_pairs_by_itself_and_a_resumed_run_the_same(
    root: Path, configured: Callable[..., Resolved], tmp_path: Path
) -> None:
    settings = {"method.pairing": "precomputed", "data.labeled": "4", "train.steps": 2, "train.save_every": 1}
    config = configured("guidedmix", IS_TINY | settings)
    with pytest.raises(DataError, match="no pairs of similar images") as caught:
        train(config, data_root=root, runs_root=tmp_path / "runs")
    assert caught.value.fix == f"semiseg pair shapes --labeled 4 --encoder tiny --weights none --root {root}"
    first = Path(run(root, weights="none")["pairs"])
    done = train(config, data_root=root, runs_root=tmp_path / "runs")
    assert f'pairs = "{first.name}"' in (Path(done["run"]) / "config.toml").read_text()

    run(root, k=1)  # newer
    (Path(done["run"]) / "result.json").unlink()
    assert resume(Path(done["run"]), data_root=root)["last"] == done["last"]
    shown = visualize(Path(done["run"]), "pairs", root=root, count=2)
    assert shown["pairs"] == str(first)
    assert len(shown["images"]) == 2

    images = load_dataset(root, "shapes").train
    shutil.copy(images[1].image, images[0].image)
    with pytest.raises(DataError, match="no pairs of similar images") as caught:
        train(config, data_root=root, runs_root=tmp_path / "runs", dry_run=True)
    assert "before its image files changed" in caught.value.why
    run(root, weights="none")
    assert train(config, data_root=root, runs_root=tmp_path / "runs", dry_run=True)["images_per_second"] > 0


def test_a_checkpoint_is_an_encoder(root: Path, configured: Callable[..., Resolved], tmp_path: Path) -> None:
    done = train(configured("supervised", {"train.steps": 1}), data_root=root, runs_root=tmp_path / "runs")
    found = run(root, encoder=done["run"])
    assert found["encoded"] == 14
    assert found["pairs"] != run(root)["pairs"]
    with pytest.raises(UsageError, match="brings its own weights"):
        run(root, encoder=done["run"], weights="none")


def test_images_without_a_known_class_are_nobodys_neighbour(tmp_path: Path) -> None:
    prepare_shapes(tmp_path, labeled=4, unlabeled=5, val=1, size=48)
    index = tmp_path / "shapes" / "index.tsv"
    lines = index.read_text().split("\n")
    blank = next(i for i, line in enumerate(lines) if "\ttrain\t" in line and not line.endswith("-"))
    fields = lines[blank].split("\t")
    classes = len(load_dataset(tmp_path, "shapes").classes)
    lines[blank] = "\t".join([*fields[:-1], " ".join(["0"] * classes)])
    index.write_text("\n".join(lines))
    said: list[str] = []
    found = run(tmp_path, "", note=said.append)
    assert "1 of 4 labeled images have no known class and are nobody's neighbour" in said
    dataset = load_dataset(tmp_path, "shapes")
    place = [record.id for record in dataset.labeled].index(fields[0])
    assert place not in read_pairs(Path(found["pairs"])).index
    assert found["k"] == 3
    with pytest.raises(UsageError, match=r"4 neighbours .* 3 labeled images with a known class") as caught:
        run(tmp_path, "", k=4)
    assert caught.value.fix == "--k 3"


def test_bad_input(root: Path) -> None:
    with pytest.raises(UsageError, match="5 neighbours are not possible: 4 labeled"):
        run(root, k=5)
    with pytest.raises(UsageError, match="neither a backbone nor a checkpoint"):
        run(root, encoder="tinny")
    save_file(build_segmenter("resnet18", "deeplabv3plus", 2).encoder.state_dict(), root / "wider.safetensors")
    with pytest.raises(CheckpointError, match="does not fit tiny"):
        run(root, weights=str(root / "wider.safetensors"))
    load_dataset(root, "shapes").train[3].image.unlink()
    with pytest.raises(DataError, match="cannot read"):
        run(root)
