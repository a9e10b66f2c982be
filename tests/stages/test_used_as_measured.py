"""One way of showing an image to a network: `predict`, `load`, the lines of the card and `eval` see the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import semiseg_cli
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.inference import predictor
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import save_network
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.prepare import prepare_folder

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
PYTHON = PAGE.read_text().split("```python\n")[1].split("```")[0]  # from a file to labels
SIZES = {"small": (40, 56), "as-large": (64, 96), "photo": (128, 192), "mosaic": (400, 300)}  # height, width


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network that tells colours apart, of a dataset whose images have a long side of 96 pixels."""
    net = build_segmenter("tiny", "deeplabv3plus", 3)
    with torch.no_grad():
        for step in range(30):
            noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            net(noise.repeat_interleave(8, 2).repeat_interleave(8, 3))
    meta = {
        "version": "0.1.0",
        "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
        "data": {"name": "park", "kind": "folder", "classes": ["sky", "tree", "road"], "ignore": 255, "window": 0,
                 "palette": [[10, 20, 30], [0, 200, 0], [90, 90, 250]], "licence": "", "long_side": 96},
        "partition": {"name": "all 2", "fingerprint": "abc", "labeled": 2, "unlabeled": 0},
        "normalise": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]},
        "config": {"eval.window": "auto", "eval.stride": 0.5, "eval.batch": 2, "train.amp": "off"},
        "method": "supervised", "step": 30, "miou": None, "best": False,
    }  # fmt: skip
    file = tmp_path_factory.mktemp("run") / "net.safetensors"
    save_network(file, net, meta)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A photo of every size, and one that is stored turned."""
    (tmp_path / "photos").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 8
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        colours = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
        image.save(tmp_path / "photos" / f"{name}.png")
        image.save(tmp_path / "photos" / f"{name}-turned.jpg", exif=turned)
    return tmp_path / "photos"


def labels(folder: Path, name: str) -> np.ndarray:
    return np.array(Image.open(folder / f"{name}.png"))


@pytest.mark.parametrize("large", [2**22, 40 * 40])
def test_load_predict_and_the_card_give_the_same_labels(
    ckpt: Path, photos: Path, tmp_path: Path, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where images are so large that they go through windows."""
    monkeypatch.setattr(predictor, "LARGE_PIXELS", large)
    monkeypatch.setattr(predictor, "LARGE_WINDOW", 48)
    monkeypatch.chdir(tmp_path)
    predict_images(ckpt, [photos], out=tmp_path / "out", device="cpu")
    card = Path(export_network(ckpt, tmp_path / "m.safetensors")["card"]).read_text()
    lines = card.split("```python\n")[1].split("```")[0]
    net = semiseg_cli.load("m.safetensors")
    for path in photos.iterdir():
        expected = labels(tmp_path / "out" / "labels", path.stem)
        assert len(np.unique(expected)) > 1
        image = read_image(path)
        assert expected.shape == image.shape[:2]
        printed: dict[str, torch.Tensor] = {}
        exec(lines.replace("photo.jpg", str(path)), printed)
        for found in (net(path), net(Image.open(path)), net(image), net(torch.from_numpy(image)), printed["labels"]):
            np.testing.assert_array_equal(found.numpy(), expected)
        probs = net(path, probabilities=True)
        assert probs.shape == (3, *expected.shape)
        page: dict[str, torch.Tensor] = {}
        exec(PYTHON.replace("model.safetensors", "m.safetensors").replace("photo.jpg", str(path)), page)
        np.testing.assert_array_equal(page["labels"].numpy(), expected)
        torch.testing.assert_close(page["probabilities"], probs)
        torch.testing.assert_close(probs.sum(0), torch.ones(expected.shape), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(probs.argmax(0).numpy(), expected)


def test_eval_sees_other_data_as_predict_does(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """Photos prepared at full size, measured with a network of reduced ones."""
    for path in photos.iterdir():
        height, width = read_image(path).shape[:2]
        mask = np.random.default_rng(0).integers(0, 3, (height, width), np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{path.stem}.png")
    (tmp_path / "classes.txt").write_text("sky\ntree\nroad\n")
    data = prepare_folder(
        tmp_path, name="whole", labeled=photos, masks=tmp_path / "masks", classes=tmp_path / "classes.txt", long_side=0
    )
    found = evaluate_checkpoint(
        ckpt, root=tmp_path, data="whole", split="train", save=tmp_path / "saved", device="cpu"
    )
    assert found["long_side"] == 96
    predict_images(ckpt, [record.image for record in data.train], Inference(), out=tmp_path / "out", device="cpu")
    for record in data.train:
        saved = labels(tmp_path / "saved", record.id)
        np.testing.assert_array_equal(saved, labels(tmp_path / "out" / "labels", record.image.stem))
