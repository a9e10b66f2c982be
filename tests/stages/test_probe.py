"""`semiseg probe`: what it measures is what `eval` measures; its features are computed once and never mixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from semiseg_cli import load
from semiseg_cli.core import runs
from semiseg_cli.core.data.decode import decode_image
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import BadFile, DataError, Interrupted, UsageError
from semiseg_cli.core.inference import dense
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.probe import probe, settings_of
from semiseg_cli.stages.runs import summarise_runs
from semiseg_cli.stages.train import train
from semiseg_cli.stages.visualize import visualize

QUICK = {"data.name": "shapes", "data.labeled": "4", "model.backbone": "tiny", "train.steps": 3}


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(shapes_root, tmp_path / "data")
    return tmp_path / "data"


def run(root: Path, changes: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    resolved = settings_of(QUICK | (changes or {}))
    return probe(resolved, data_root=root, runs_root=root.parent / "runs", device="cpu", **options)


def test_a_probe_is_a_run_that_everything_takes(root: Path, configured: Callable[..., Any], tmp_path: Path) -> None:
    found = run(root)
    place = Path(found["run"])
    assert place.name == "shapes-4-probe-tiny-s0"
    measured = evaluate_checkpoint(place, root=root, device="cpu")
    assert measured["miou"] == found["last"]["miou"]
    assert measured["iou"] == found["last"]["iou"]
    assert found["peak_memory_bytes"] > 2**26  # a process with PyTorch in it
    _, meta = load_network(place / "last.safetensors")
    assert (meta["miou"], meta["model"]["decoder"], meta["data"]["long_side"]) == (measured["miou"], "mlp", 728)

    image = load_dataset(root, "shapes").val[0].image
    label = load(place / "last.safetensors")(image)
    predict_images(place, [image], out=tmp_path / "out", device="cpu")
    assert np.array_equal(decode_image(tmp_path / "out" / "labels" / f"{image.stem}.png")[:, :, 0].shape, label.shape)
    assert Path(export_network(place, tmp_path / "e.safetensors")["card"]).read_text("utf-8").count("mlp over tiny")
    assert visualize(place, "masks", root=root, count=1, out=tmp_path / "viz", device="cpu")["sheets"]
    row = summarise_runs(root.parent / "runs")["runs"][0]
    assert (row["finished"], row["last"], row["backbone"]) == (True, measured["miou"], "tiny")
    assert runs.config_of(place) == settings_of(QUICK).config

    changes = {"model.backbone": "tiny", "model.decoder": "mlp", "train.steps": 1, "train.lr": 1e-9}
    on = configured("supervised", changes)
    trained = train(on, data_root=root, runs_root=tmp_path / "more", init=place / "last.safetensors", device="cpu")
    assert trained["last"]["miou"] == pytest.approx(measured["miou"], abs=3)


def test_a_probe_learns(root: Path) -> None:
    before, after = run(root, {"train.steps": 1}), run(root, {"train.steps": 150, "data.labeled": ""})
    assert after["loss"] < 0.6 * before["loss"]
    assert after["last"]["miou"] > before["last"]["miou"] + 5


def test_the_same_seed_is_the_same_network(root: Path) -> None:
    first, again, other = (run(root, {"train.seed": seed, "data.split_seed": 0}) for seed in (1, 1, 2))
    nets = [load_network(Path(each["run"]) / "last.safetensors")[0].state_dict() for each in (first, again, other)]
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())
    assert not torch.equal(nets[0]["decoder.classifier.weight"], nets[2]["decoder.classifier.weight"])


def test_features_are_computed_once_and_never_mixed(root: Path) -> None:
    computed = lambda **changes: run(root, {name.replace("__", "."): v for name, v in changes.items()})["features"]  # noqa: E731
    first = computed()
    assert (first["images"], first["computed"]) == (4, 4)
    assert computed(train__seed=0, model__decoder="linear")["computed"] == 0
    assert computed(data__labeled="5")["computed"] == 1  # a larger partition of one seed holds the smaller one
    smaller = computed(data__long_side=40)
    assert (smaller["computed"], smaller["folder"] != first["folder"]) == (4, True)
    assert computed(data__long_side=48)["computed"] == 4  # the same pixels, and yet what was asked is another size
    net = build_segmenter("tiny", "deeplabv3plus", 2, seed=1).encoder
    save_file(net.state_dict(), root / "tiny.safetensors")
    other = computed(model__weights=str(root / "tiny.safetensors"))
    assert (other["computed"], other["folder"] != first["folder"]) == (4, True)

    dataset = load_dataset(root, "shapes")
    record = next(r for r in dataset.labeled if r.id in _labeled(root))
    shutil.copy(dataset.val[0].image, record.image)
    assert computed()["computed"] == 1
    for file in Path(first["folder"]).iterdir():
        file.write_bytes(file.read_bytes()[:-1])  # as a crash of the machine may leave it
    assert computed()["computed"] == 4


def _labeled(root: Path) -> list[str]:
    from semiseg_cli.core.partitions.splits import resolve_partition

    return [record.id for record in resolve_partition(load_dataset(root, "shapes"), "4").labeled]


def test_an_interrupted_probe_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = dense.write_bytes, list[Path]()

    def killed(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(dense, "write_bytes", killed)
    with pytest.raises(Interrupted, match="was interrupted"):
        run(root)
    assert not (root.parent / "runs").exists()
    monkeypatch.setattr(dense, "write_bytes", write)
    assert run(root)["features"]["computed"] == 2


def test_a_full_disk_keeps_what_is_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = dense.write_bytes, list[Path]()

    def full(path: Path, data: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data)

    monkeypatch.setattr(dense, "write_bytes", full)
    with pytest.raises(DataError, match="cannot write features") as caught:
        run(root)
    assert "No space left" in caught.value.why
    assert "what is done is kept, 1 image" in caught.value.why
    assert "MB" in caught.value.fix
    monkeypatch.setattr(dense, "write_bytes", write)
    assert run(root)["features"]["computed"] == 3


def test_a_linear_head_learns_faster() -> None:
    assert settings_of(QUICK).config.train.lr == 1e-3
    linear = settings_of(QUICK | {"model.decoder": "linear"})
    assert (linear.config.train.lr, linear.origins["train.lr"]) == (1e-2, "probe")


def test_bad_input(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no head of a probe"):
        run(root, {"model.decoder": "deeplabv3plus"})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        run(root, out=tmp_path / "taken")
    record = next(r for r in load_dataset(root, "shapes").labeled if r.id in _labeled(root))
    record.image.write_bytes(b"no image")
    with pytest.raises(BadFile) as caught:
        run(root)
    assert "semiseg check shapes" in caught.value.fix


def test_without_validation_images(root: Path) -> None:
    index = root / "shapes" / "index.tsv"
    lines = index.read_text("utf-8").splitlines(keepends=True)
    index.write_text("".join(line for line in lines if "\tval\t" not in line), "utf-8")
    found = run(root)
    assert (found["last"], found["images"]) == (None, 0)
    assert json.loads((Path(found["run"]) / "result.json").read_text("utf-8"))["last"] is None


def test_of_the_projects_file_a_probe_reads_the_data(tmp_path: Path) -> None:
    (tmp_path / "semiseg.toml").write_text('[data]\nname = "mine"\nlabeled = "5"\n[train]\nsteps = 9000\n')
    config = settings_of({"data.labeled": "7"}, tmp_path).config
    assert (config.data.name, config.data.labeled, config.train.steps) == ("mine", "7", 300)
    assert settings_of({}, tmp_path).origins["data.labeled"] == str(tmp_path / "semiseg.toml")
