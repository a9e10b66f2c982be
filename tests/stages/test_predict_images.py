"""`predict_images`: any photo in, labels at the photo's size out; what goes wrong is named."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.inference import predictor, sliding
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.sources.classes import read_classes
from semiseg_cli.core.training.checkpoint import load_network, save_network
from semiseg_cli.core.viz.overlay import tinted
from semiseg_cli.stages import predict as stage
from semiseg_cli.stages import predicted_files
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.predicted_files import full_palette

CLASSES = ["sky", "tree", "road"]
PALETTE = [[10, 20, 30], [0, 200, 0], [90, 90, 250]]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def meta(**data: Any) -> dict[str, Any]:
    return {
        "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
        "data": {"name": "park", "classes": CLASSES, "palette": PALETTE, "ignore": 255, "window": 0, **data},
        "partition": {"name": "all 2"},
        "normalise": {"mean": MEAN, "std": STD},
        "config": {"eval.window": "auto", "eval.stride": 2 / 3, "eval.batch": 2, "train.amp": "auto"},
        "method": "a-method-nobody-has",
        "step": 30,
    }


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    """Untrained, with running statistics, so that it tells colours apart."""
    net = build_segmenter("tiny", "deeplabv3plus", 3)
    with torch.no_grad():
        for step in range(30):
            noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            net(noise.repeat_interleave(8, 2).repeat_interleave(8, 3))
    return net


@pytest.fixture
def ckpt(net: torch.nn.Module, tmp_path: Path) -> Path:
    save_network(tmp_path / "net.safetensors", net, meta())
    return tmp_path / "net.safetensors"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos in a folder and its subfolder; `turned.jpg` is stored 48x40 (width x height) and seen 40x48."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    blocks(40, 48, 0).save(folder / "a.png")
    blocks(64, 40, 1).save(folder / "more" / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    blocks(40, 48, 2).save(folder / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no image")
    return folder


def blocks(height: int, width: int, seed: int) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(colours.repeat(8, 0).repeat(8, 1))


def by_hand(ckpt: Path, image: np.ndarray, window: int = 0, labels: bool = True) -> Any:
    """Class indices, or the probabilities of all classes."""
    net, _ = load_network(ckpt)
    x = torch.tensor(((image / 255.0 - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
    probs = sliding.predict(net, x, window=window)
    return probs.argmax(1)[0].numpy() if labels else probs


def label(out: Path, id: str) -> np.ndarray:
    return np.array(Image.open(out / "labels" / f"{id}.png"))


def same(labels: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the odd pixel where two classes tie within rounding."""
    assert labels.shape == expected.shape
    assert (labels == expected).mean() > 0.998


def predict(ckpt: Path, *images: Path, out: Path, **how: Any) -> dict[str, Any]:
    asked = {name: how.pop(name) for name in ("window", "scales", "flip") if name in how}
    return predict_images(ckpt, images, Inference(**asked), out=out, device="cpu", **how)


def test_labels_are_the_networks_and_upright(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = predict(ckpt, photos, out=out)
    assert found["images"] == 3
    assert found["failed"] == []
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "labels/a.png", "labels/more/b.png", "labels/turned.png", "overlays/legend.png",
    ]  # fmt: skip
    for id, name in (("a", "a.png"), ("more/b", "more/b.png"), ("turned", "turned.jpg")):
        expected = by_hand(ckpt, read_image(photos / name))
        same(label(out, id), expected)
        assert len(np.unique(expected)) > 1
    assert label(out, "turned").shape == (48, 40)


def test_a_cpu_predicts_in_float32(net: torch.nn.Module, photos: Path, tmp_path: Path) -> None:
    """Also where the training was asked to be in bfloat16: as eval measures it."""
    for amp in ("off", "bf16"):
        said = meta()
        said["config"]["train.amp"] = amp
        save_network(tmp_path / "net.safetensors", net, said)
        predict(tmp_path / "net.safetensors", photos, out=tmp_path / amp)
    for id in ("a", "more/b", "turned"):
        assert np.array_equal(label(tmp_path / "off", id), label(tmp_path / "bf16", id))


def test_labels_carry_the_palette_and_overlays_tint_the_image(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(ckpt, photos / "a.png", out=out)
    with Image.open(out / "labels" / "a.png") as image:
        assert image.mode == "P"
        coloured = np.array(image.convert("RGB")).astype(int)
    np.testing.assert_array_equal(coloured, np.array(PALETTE)[label(out, "a")])
    drawn = np.array(Image.open(out / "overlays" / "a.jpg"))
    expected = tinted(read_image(photos / "a.png"), label(out, "a"), np.array(PALETTE, np.uint8))
    assert np.abs(drawn.astype(int) - expected).mean() < 8  # JPEG
    key = np.array(Image.open(out / "overlays" / "legend.png").convert("RGB"))
    assert all((key == colour).all(-1).sum() >= 14 * 14 for colour in np.array(PALETTE))


def test_no_overlay(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    found = predict(ckpt, photos, out=tmp_path / "out", overlay=False)
    assert found["overlays"] is None
    assert not (tmp_path / "out" / "overlays").exists()


def test_classes_json_is_what_prepare_reads(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    predict(ckpt, photos, out=tmp_path / "out")
    read = read_classes(tmp_path / "out" / "classes.json")
    assert (list(read.names), [list(colour) for colour in read.palette], read.ignore) == (CLASSES, PALETTE, 255)


def test_a_large_image_is_seen_small_and_labeled_large(net: torch.nn.Module, photos: Path, tmp_path: Path) -> None:
    ckpt = tmp_path / "net.safetensors"
    save_network(ckpt, net, meta(long_side=96))
    small = blocks(96, 64, 5)
    small.resize((192, 288), Image.Resampling.NEAREST).save(photos / "large.png")
    found = predict(ckpt, photos / "large.png", photos / "a.png", out=tmp_path / "out")
    assert found["long_side"] == 96
    probs = by_hand(ckpt, np.array(small), labels=False)
    expected = F.interpolate(probs.double(), (288, 192), mode="bilinear", align_corners=False).argmax(1)[0].numpy()
    same(label(tmp_path / "out", "large"), expected)
    assert label(tmp_path / "out", "a").shape == (40, 48)  # never enlarged for the network
    predict(ckpt, photos / "large.png", out=tmp_path / "whole", long_side=0)
    same(label(tmp_path / "whole", "large"), by_hand(ckpt, read_image(photos / "large.png")))


def test_windows(ckpt: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks(120, 104, 7).save(photos / "c.png")
    image = read_image(photos / "c.png")
    whole, windows = by_hand(ckpt, image), by_hand(ckpt, image, 48)
    assert (whole != windows).any()
    for name, options, expected in (("auto", {}, whole), ("48", {"window": "48"}, windows)):
        predict(ckpt, photos / "c.png", out=tmp_path / name, **options)
        same(label(tmp_path / name, "c"), expected)
    monkeypatch.setattr(predictor, "LARGE_PIXELS", 100 * 100)
    monkeypatch.setattr(predictor, "LARGE_WINDOW", 48)
    for name, window, expected in (("large", "auto", windows), ("asked", "none", whole)):
        predict(ckpt, photos / "c.png", photos / "a.png", out=tmp_path / name, window=window)
        same(label(tmp_path / name, "c"), expected)
        same(label(tmp_path / name, "a"), by_hand(ckpt, read_image(photos / "a.png")))


def test_only_a_handful_of_images_is_in_memory(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        blocks(40, 40, number).save(folder / f"{number:02}.png")
    events: list[int] = []
    monkeypatch.setattr(stage, "read_image", lambda *a: (events.append(1), read_image(*a))[1])
    save = predicted_files.save_index
    monkeypatch.setattr(predicted_files, "save_index", lambda *a: (save(*a), events.append(-1)))
    monkeypatch.setattr(stage, "CHUNK_PIXELS", 5 * 40 * 40)
    assert predict(ckpt, folder, out=tmp_path / "out")["images"] == 40
    assert len(events) == 80
    assert max(np.cumsum(events)) <= 5 + stage.AHEAD + 1 + stage.BEHIND


def test_an_unreadable_image_is_named_and_the_others_are_done(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes((photos / "turned.jpg").read_bytes()[:300])
    (photos / "empty.png").touch()
    advanced: list[int] = []

    found = predict(
        ckpt, photos, out=tmp_path / "out", progress=lambda *a: nullcontext(lambda count=1: advanced.append(count))
    )
    assert found["images"] == 3
    assert [line.split(": ")[0] for line in found["failed"]] == [str(photos / "broken.jpg"), str(photos / "empty.png")]
    assert all(line.split(": ")[1] for line in found["failed"])
    assert sum(advanced) == 5
    assert len(list((tmp_path / "out" / "labels").rglob("*.png"))) == 3


def test_nothing_readable(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    found = predict(ckpt, photos / "notes.txt", out=tmp_path / "out")
    assert (found["images"], len(found["failed"])) == (0, 1)


def test_names_that_collide(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    blocks(40, 48, 3).save(photos / "a.jpg")
    with pytest.raises(DataError, match="collide") as caught:
        predict(ckpt, photos, out=tmp_path / "out")
    assert "a.jpg" in caught.value.what
    assert "a.png" in caught.value.what
    assert not (tmp_path / "out").exists()


def test_the_same_file_twice_is_no_collision(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    assert predict(ckpt, photos / "a.png", photos, out=tmp_path / "out")["images"] == 3


def test_output_among_the_input(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both read and written"):
        predict(ckpt, photos, out=photos)
    out = photos / "predictions"
    for _ in range(2):  # the second run does not find what the first one wrote
        assert predict(ckpt, photos, out=out)["images"] == 3
    for given in (out / "labels", out / "labels" / "more", out / "labels" / "a.png", out / "overlays"):
        with pytest.raises(UsageError, match="both read and written"):
            predict(ckpt, given, out=out)
    assert predict(ckpt, out / "labels", out=tmp_path / "other")["images"] == 3


def test_hidden_files_are_left_out(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    (photos / ".cache").mkdir()
    blocks(40, 40, 1).save(photos / ".cache" / "x.png")
    blocks(40, 40, 1).save(photos / ".x.png")
    assert predict(ckpt, photos, out=tmp_path / "out")["images"] == 3


def test_nothing_to_predict(ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no image in"):
        predict(ckpt, tmp_path / "none", out=tmp_path / "out")
    with pytest.raises(DataError, match="no file or folder"):
        predict(ckpt, tmp_path / "nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/semiseg")):  # /proc refuses root, too
        with pytest.raises(DataError, match="cannot write into"):
            predict(ckpt, photos, out=out)


def test_a_palette_shorter_than_the_classes(net: torch.nn.Module, photos: Path, tmp_path: Path) -> None:
    ckpt, notes = tmp_path / "net.safetensors", list[str]()
    save_network(ckpt, net, meta(palette=[[128, 0, 0]]))
    predict(ckpt, photos / "a.png", out=tmp_path / "out", note=notes.append)
    palette = read_classes(tmp_path / "out" / "classes.json").palette
    assert palette[0] == (128, 0, 0)
    assert len(set(palette)) == 3
    assert len(notes) == 1
    assert "tree, road" in notes[0]
    assert full_palette({"classes": CLASSES, "palette": PALETTE}, notes.append) == [tuple(c) for c in PALETTE]
    assert len(notes) == 1


def test_a_run_directory_and_what_is_no_checkpoint(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ckpt.rename(tmp_path / "run" / "last.safetensors")
    assert predict(tmp_path / "run", photos, out=tmp_path / "out")["checkpoint"].endswith("last.safetensors")
    with pytest.raises(CheckpointError):
        predict(photos / "notes.txt", photos, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_scales_and_flip_change_the_prediction(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    predict(ckpt, photos / "a.png", out=tmp_path / "out", scales=(0.75, 1.0, 1.5), flip=True)
    assert (label(tmp_path / "out", "a") != by_hand(ckpt, read_image(photos / "a.png"))).any()
    with pytest.raises(UsageError, match="scales"):
        predict(ckpt, photos, out=tmp_path / "out", scales=(0.0,))


def test_what_is_not_predicted_is_told(ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """Other files by kind, 16-bit photos that are seen as black, and pages beside the first."""
    notes = list[str]()
    (photos / "clip.mp4").touch()
    Image.fromarray(np.full((40, 48), 4095, np.uint16)).save(photos / "dark.png")
    page = Image.new("RGB", (48, 40))
    page.save(photos / "scan.tif", save_all=True, append_images=[page])
    predict(ckpt, photos, out=tmp_path / "out", note=notes.append)
    assert notes.pop(1).startswith(f"1 photo of several pages, of which the first alone is taken: {photos}/scan")
    assert notes[0] == f"not read in {photos}: 1 .txt, 1 video (ffmpeg -i FILE -r 1 frame-%05d.png)"
    assert notes[1].startswith(f"seen nearly black: 1 photo of 16 bits, the first is {photos / 'dark.png'}")
    assert len(notes) == 2
