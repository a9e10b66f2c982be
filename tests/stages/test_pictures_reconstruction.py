"""Pictures of S4MIM's reconstructions, and of features, from a real run of a few steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.methods.s4mim.streams import STREAMS
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.preview import pictured
from semiseg_cli.core.viz.tiles import Labels, Photo
from semiseg_cli.stages import pictures_features
from semiseg_cli.stages import visualize as visualize_stage
from semiseg_cli.stages.pictures_features import at_most, features, vectors
from semiseg_cli.stages.pictures_reconstruction import COLUMNS, reconstructions
from semiseg_cli.stages.progress import silent
from semiseg_cli.stages.train import train
from semiseg_cli.stages.visualize import _session, visualize


def finished(method: str, shapes_root: Path, out: Path, **changes: Any) -> Path:
    layer = {
        "method.name": method, "data.name": "shapes", "model.backbone": "tiny", "model.weights": "none",
        "train.steps": 2, "train.batch": 3, "train.crop": 33, "train.lr": 0.01, "train.workers": 0, "train.amp": "off",
        "train.save_every": 2, "train.eval_every": 0, "eval.window": "none", "method.warmup": 0.5, **changes,
    }  # fmt: skip
    train(resolve([("test", layer)]), data_root=shapes_root, runs_root=out.parent, out=out, device="cpu")
    return out


@pytest.fixture(scope="module")
def run(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished("s4mim", shapes_root, tmp_path_factory.mktemp("runs") / "s4mim", **{"method.ratio": 0.3})


def test_reconstructions_are_drawn_stream_by_stream(run: Path, shapes_root: Path, tmp_path: Path) -> None:
    found = visualize(run, "reconstruction", root=shapes_root, count=7, out=tmp_path, device="cpu")
    assert (found["kind"], found["method"], found["step"]) == ("reconstruction", "s4mim", 2)
    assert [Path(file).name for file in found["sheets"]] == ["reconstruction-1.png", "reconstruction-2.png"]
    assert [image["stream"] for image in found["images"]] == [*STREAMS, *STREAMS, STREAMS[0]]
    assert all(0.2 < image["masked"] < 0.4 and image["error"] > 0 for image in found["images"])
    labeled = {record.id for record in load_dataset(shapes_root, "shapes").train if record.mask is not None}
    assert all((image["id"] in labeled) == (image["stream"] == "labeled") for image in found["images"])
    again = visualize(run, "reconstruction", root=shapes_root, count=7, out=tmp_path, device="cpu")
    assert again == found


def test_the_tiles_belong_together(run: Path, shapes_root: Path) -> None:
    session, step = _session(run, shapes_root, "cpu")
    gallery, facts = reconstructions(session, step, 3, seed=2)
    assert gallery.columns == COLUMNS
    for number, (_, shown) in enumerate(pictured(session, 3, 2, "strong/reconstruction", "")):
        image, mask, masked, made, groups = gallery.rows[number].tiles
        stream = STREAMS[number]
        hidden, valid = shown[f"{stream}/mask"].numpy(), shown[f"{stream}/valid"].numpy()
        assert isinstance(mask, Photo)
        assert ((mask.rgb[..., 0] < 128) == hidden).all()
        assert isinstance(masked, Photo)
        assert (masked.valid == (valid & ~hidden)).all()
        assert isinstance(image, Photo)
        assert isinstance(made, Photo)
        assert isinstance(groups, Labels)
        assert (groups.label[valid] == shown[f"{stream}/group"].numpy()[valid]).all()
        assert (groups.label[~valid] == 255).all()
        std = np.array([0.229, 0.224, 0.225])
        away = ((made.rgb.astype(float) - image.rgb) / 255 / std)[valid]  # as drawn: 8 bits, cut to the range
        assert facts["images"][number]["error"] == pytest.approx((away**2).mean(), rel=0.2)


def test_a_run_that_reconstructs_nothing(shapes_root: Path, tmp_path: Path) -> None:
    run = finished("s4mim", shapes_root, tmp_path / "plain", **{"method.lambda_mp": 0.0})
    with pytest.raises(UsageError, match="no pictures of this kind"):
        visualize(run, "reconstruction", root=shapes_root, device="cpu")


class Flat:
    """Stands for scikit-learn's TSNE, an optional extra: the first two features."""

    asked: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        Flat.asked = settings

    def fit_transform(self, points: np.ndarray) -> np.ndarray:
        return points[:, :2]


def test_features_are_drawn_by_class(
    run: Path, shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (visualize_stage, pictures_features):
        monkeypatch.setattr(module, "require_tsne", lambda: Flat)
    monkeypatch.setattr(pictures_features, "POINTS", 60)
    found = visualize(run, "features", root=shapes_root, count=2, out=tmp_path, device="cpu")
    assert found["points"]["background"] == 60
    assert all(0 <= number <= 60 for number in found["points"].values())
    assert len(found["images"]) == 2
    assert Flat.asked["perplexity"] == min(30, (sum(found["points"].values()) - 1) / 3)
    (sheet,) = found["sheets"]
    assert np.asarray(Image.open(sheet)).shape[0] > 720
    twice = visualize(run, "features", root=shapes_root, count=2, out=tmp_path, device="cpu")
    assert twice == found


def test_a_vector_belongs_to_the_class_at_its_place(run: Path, shapes_root: Path) -> None:
    net, meta = load_network(run / "last.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (33, 65, 3), np.uint8)
    truth = np.zeros((33, 65), np.uint8)
    truth[32:, 64:] = 3
    mean, std = meta["normalise"]["mean"], meta["normalise"]["std"]
    fused, label = vectors(net, image, truth, mean, std, torch.device("cpu"))
    assert fused.shape == (9 * 17, net.widths["fused"])
    assert label.tolist() == [0] * (9 * 17 - 1) + [3]
    x = torch.from_numpy(((image / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)
    with torch.no_grad():
        expected = net.decode(net.encode(x[None]), (33, 65)).fused[0, :, 3, 5]
    assert torch.allclose(torch.from_numpy(fused[3 * 17 + 5]), expected, atol=1e-5)


def test_at_most_so_many_of_each_class() -> None:
    label = np.array([0] * 10 + [2] * 3 + [255] * 20)
    kept = at_most(label, 3, 4, np.random.default_rng(0))
    assert len(set(kept.tolist())) == len(kept)
    assert np.bincount(label[kept]).tolist() == [4, 0, 3]


def test_without_scikit_learn_and_without_labels(
    run: Path, shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    monkeypatch.setattr(visualize_stage, "_gallery", lambda *_: pytest.fail("pictures were drawn before"))
    with pytest.raises(UsageError, match="need scikit-learn") as error:
        visualize(run, ["masks", "features"], root=shapes_root, out=tmp_path, device="cpu")
    assert "semiseg[tsne]" in error.value.fix
    monkeypatch.setattr(pictures_features, "require_tsne", lambda: Flat)
    nothing = np.zeros((33, 33, 3), np.uint8), np.full((33, 33), 255, np.uint8)
    monkeypatch.setattr(pictures_features, "load_labeled", lambda *_: nothing)
    with pytest.raises(DataError, match="validation images to show"):
        features({"a": run / "last.safetensors"}, shapes_root, 1, 0, "cpu", silent)
