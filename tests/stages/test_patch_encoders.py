"""An encoder that takes sides of 14 n only, from training to an exported file: nobody needs to think of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_patches import Patches
from PIL import Image
from torch.nn import functional as F

import semiseg_cli
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.train import train

Start = Callable[..., Path]


@pytest.fixture
def start(patches: type[Patches], configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> Start:
    def make(method: str = "fixmatch", **changes: object) -> Path:
        model = {"model.backbone": "patches", "model.decoder": "plain", "train.crop": 42, "train.steps": 2}
        out, resolved = tmp_path / "run", configured(method, model | changes)
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=out, device="cpu")
        return out

    return make


def by_hand(net: torch.nn.Module, image: np.ndarray) -> torch.Tensor:
    """Logits of a 48 px image: resized to 42, aligned corners, and back."""
    rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (Patches.mean, Patches.std))
    x = F.interpolate((rgb - mean) / std, (42, 42), mode="bilinear", align_corners=True)
    logits = net.decode(net.encode(x), (42, 42)).logits_BKHW
    return F.interpolate(logits, (48, 48), mode="bilinear", align_corners=True)


def test_from_training_to_a_file(start: Start, shapes_root: Path, tmp_path: Path) -> None:
    run = start()
    record = load_dataset(shapes_root, "shapes").val[0]
    image = np.array(Image.open(record.image))
    net, meta = load_network(run / "last.safetensors")
    assert meta["normalise"] == {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    with torch.no_grad():
        expected = by_hand(net, image).argmax(1)[0]

    export_network(run / "last.safetensors", tmp_path / "net.safetensors")
    deployed = semiseg_cli.load(tmp_path / "net.safetensors")
    assert torch.equal(deployed(image).long(), expected)
    assert "nearest multiples of 14" in (tmp_path / "net.md").read_text()

    predict_images(run / "last.safetensors", [record.image], out=tmp_path / "out", device="cpu")
    (label,) = (tmp_path / "out" / "labels").glob("*.png")
    assert np.array_equal(np.array(Image.open(label)), expected.numpy())


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (Inference(window="none"), {(42, 42)}),
        (Inference(window="none", scales=(1.0, 0.5, 2.0)), {(42, 42), (28, 28), (98, 98)}),
        (Inference(window="32"), {(28, 28)}),
        (Inference(window="64"), {(42, 42)}),
    ],
    ids=["whole", "scales", "windows", "one window"],
)
def test_evaluation_shows_it_what_it_takes(
    start: Start, shapes_root: Path, monkeypatch: pytest.MonkeyPatch, how: Inference, seen: set[tuple[int, int]]
) -> None:
    run, shown = start("supervised"), set[tuple[int, int]]()
    whole = Patches.forward
    monkeypatch.setattr(Patches, "forward", lambda self, x: shown.add(tuple(x.shape[2:])) or whole(self, x))
    found = evaluate_checkpoint(run / "last.safetensors", how, root=shapes_root, device="cpu")
    assert found["images"] == 3
    assert found["window"] == {"none": 0, "32": 28, "64": 70}[how.window]  # what is told of it is what was done
    assert found["miou"] is not None
    assert shown == seen


def test_training_shows_it_images_of_its_mean_and_deviation(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, whole = list[torch.Tensor](), Patches.forward
    monkeypatch.setattr(Patches, "forward", lambda self, x: shown.append(x) or whole(self, x))
    start("supervised")
    mean, std = (torch.tensor(v)[:, None, None] for v in (Patches.mean, Patches.std))
    levels = (shown[0] * std + mean) * 255
    assert levels.std() > 10
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["maskmatch", "guidedmix", "s4mim", "stpg", "unimatch"])
def test_methods_that_look_inside_a_network_train_it(start: Start, method: str) -> None:
    assert (start(method, **{"model.output_stride": 16}) / "last.safetensors").is_file()


def test_an_image_smaller_than_a_patch_is_enlarged_to_one(start: Start, tmp_path: Path) -> None:
    run = start("supervised")
    Image.fromarray(np.full((5, 9, 3), 90, np.uint8)).save(tmp_path / "small.png")
    predict_images(run / "last.safetensors", [tmp_path / "small.png"], out=tmp_path / "out", device="cpu")
    (label,) = (tmp_path / "out" / "labels").glob("*.png")
    assert np.array(Image.open(label)).shape == (5, 9)


def test_a_crop_it_cannot_cut_is_refused_before_training(start: Start) -> None:
    with pytest.raises(UsageError, match="multiples of 14, and crops of 33 pixels are not") as caught:
        start("supervised", **{"train.crop": 33})
    assert caught.value.fix == "-s train.crop=28"


def test_the_pair_must_fit(start: Start) -> None:
    with pytest.raises(UsageError, match="decoder deeplabv3plus needs a pyramid") as caught:
        start("supervised", **{"model.decoder": "deeplabv3plus"})
    assert caught.value.why == "the maps of patches have the strides 14, 14, 14, 14"
    assert caught.value.fix == "--set model.decoder=dpt"
