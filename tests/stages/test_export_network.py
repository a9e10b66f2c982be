"""`export_network` and `semiseg_cli.load`: what is exported predicts as the checkpoint does, with little installed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fresh import begun, run_without
from PIL import Image
from safetensors.torch import load_file

import semiseg_cli
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import load_network, read_network, save_network, write
from semiseg_cli.stages.export import export_network, model_card
from semiseg_cli.stages.predict import predict_images

META: dict[str, Any] = {
    "version": "0.1.0",
    "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
    "data": {"name": "park", "kind": "folder", "classes": ["sky", "tr|ee", "road"], "ignore": 255, "window": 40,
             "palette": [[10, 20, 30], [0, 200, 0], [90, 90, 250]], "licence": "CC-BY-4.0", "long_side": 96},
    "partition": {"name": "own partition, seed 0, 2 of 16", "fingerprint": "abc123", "labeled": 2, "unlabeled": 14},
    "normalise": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]},
    "config": {"eval.window": "auto", "eval.stride": 0.5, "eval.batch": 2, "train.amp": "auto", "train.lr": 0.125,
               "model.weights": "/home/someone/weights.safetensors"},
    "method": "fixmatch",
    "step": 30,
    "miou": 61.234,
    "best": True,
}  # fmt: skip


def make_run(run: Path, name: str = "best", **changes: Any) -> Path:
    """A run directory with an untrained network that has running statistics."""
    net = build_segmenter("tiny", "deeplabv3plus", (META | changes)["model"]["classes"])
    with torch.no_grad():
        for step in range(30):
            noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            net(noise.repeat_interleave(8, 2).repeat_interleave(8, 3))
    save_network(run / f"{name}.safetensors", net, META | changes)
    (run / "config.toml").touch()
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "park-2-fixmatch-tiny-s0")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    colours = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(colours.repeat(8, 0).repeat(8, 1)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_export_predicts_as_the_command_does(run: Path, photo: Path, tmp_path: Path) -> None:
    found = export_network(run, tmp_path / "model.safetensors")
    assert (found["file"], found["card"]) == (str(tmp_path / "model.safetensors"), str(tmp_path / "model.md"))
    predict_images(run, [photo], out=tmp_path / "out", device="cpu")
    expected = np.array(Image.open(tmp_path / "out" / "labels" / "photo.png"))
    net = semiseg_cli.load(found["file"])
    assert net.classes == ["sky", "tr|ee", "road"]
    assert not net.training
    labels = net(Image.open(photo))
    assert labels.dtype == torch.uint8
    np.testing.assert_array_equal(labels.numpy(), expected)
    assert len(np.unique(expected)) > 1
    rgb = np.array(Image.open(photo))
    np.testing.assert_array_equal(net(rgb).numpy(), expected)
    np.testing.assert_array_equal(net(torch.from_numpy(rgb)).numpy(), expected)


def test_weights_and_metadata_are_the_checkpoints(run: Path, tmp_path: Path) -> None:
    export_network(run, tmp_path / "m.safetensors")
    (old, old_meta), (new, new_meta) = (load_network(p) for p in (run / "best.safetensors", tmp_path / "m.safetensors"))
    assert new_meta == old_meta
    for name, value in old.state_dict().items():
        assert torch.equal(value, new.state_dict()[name])


def test_half(run: Path, photo: Path, tmp_path: Path) -> None:
    whole = export_network(run, tmp_path / "whole.safetensors")
    half = export_network(run, tmp_path / "half.safetensors", half=True)
    assert half["bytes"] < 0.55 * whole["bytes"]
    assert "float16" in Path(half["card"]).read_text()
    tensors = load_file(half["file"])
    assert {tensors[name].dtype for name in tensors if tensors[name].ndim > 1} == {torch.float16}
    assert all(t.dtype == torch.float32 for name, t in tensors.items() if "running" in name)
    net = semiseg_cli.load(half["file"])
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    rgb = Image.open(photo)
    assert (net(rgb) == semiseg_cli.load(whole["file"])(rgb)).float().mean() > 0.98


def test_the_card(run: Path, tmp_path: Path) -> None:
    card = Path(export_network(run, tmp_path / "m.safetensors")["card"]).read_text()
    for fact in (
        "park (folder)", "CC-BY-4.0", "own partition, seed 0, 2 of 16; with 14 unlabeled images", "`abc123`",
        "fixmatch, 30 steps", "arXiv 2001.07685", "61.23 %", "chosen on these very images", "deeplabv3plus over tiny",
        "long side at most 96 pixels", "windows of 40 pixels", "| 1 | tr\\|ee | #00c800 |", '"train.lr": 0.125',
    ):  # fmt: skip
        assert fact in card, fact
    assert "/home" not in card
    parameters = sum(p.numel() for p in load_network(run / "best.safetensors")[0].parameters())
    assert f"{parameters / 1e6:.2f} million parameters" in card


def test_names_in_a_card_are_words(run: Path) -> None:
    """Whatever the metadata of a checkpoint hold, which anybody may have written."""
    tensors, meta = read_network(run / "best.safetensors")
    evil = "<img src=x onerror=alert(1)> [a](javascript:b) | `c` \x1b]0;d\x07\n# e\n```"
    meta["data"] |= {"name": evil, "licence": evil, "classes": [evil, *meta["data"]["classes"][1:]]}
    meta["partition"] |= {"name": evil, "fingerprint": evil}
    meta["method"] = meta["version"] = meta["model"]["decoder"] = evil
    card = model_card("```evil\n# x.safetensors", tensors, meta | {"config": {"method.note": evil}})
    assert "\x1b" not in card
    assert "<img" not in card.split("## Settings")[0]
    for line in card.split("## Settings")[0].splitlines():
        assert re.search(r"(?<!\\)\[a\]", line) is None
        if line.startswith("| ") and "c" in line and "img" in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4)  # its cells and no other
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# \\`\\`\\`evil # x", "## Load it", "## How it sees a photo", "## Classes", "## Settings",
    ]  # fmt: skip
    assert len(re.findall(r"(?m)^`{3,}(python|json)?$", card)) == 4


def test_a_card_without_miou_licence_paper_and_colours(tmp_path: Path) -> None:
    data = META["data"] | {"licence": "", "palette": [], "long_side": 0, "window": 0}
    run = make_run(tmp_path / "r", miou=None, method="of-another-version", best=False, data=data)
    card = Path(export_network(run, tmp_path / "m.safetensors")["card"]).read_text()
    for fact in ("not measured at this step", "not stated", "unknown to this version", "| 2 | road |  |"):
        assert fact in card, fact
    assert "seen in windows" not in card


def test_the_lines_of_the_card_work_with_little_installed(run: Path, photo: Path, tmp_path: Path) -> None:
    found = export_network(run, tmp_path / "model.safetensors")
    lines = re.search(r"```python\n(.*?)```", Path(found["card"]).read_text(), re.DOTALL)
    assert lines is not None
    code = lines[1].replace("photo.jpg", photo.name)
    assert len(code.splitlines()) == 3
    data = ("core.data.index", "core.data.loader", "core.data.decode", "core.data.imaging")
    parts = ("cli", "stages", "core.sources", "core.methods", "core.views", "core.config", *data)
    blocked = ["typer", "rich", "cv2", "scipy", *(f"semiseg_cli.{part}" for part in parts)]
    done = begun(run_without, blocked, f"{code}\nprint(labels.shape, net.classes[labels[0, 0]])", folder=tmp_path)
    done.join()
    assert (tmp_path / "stdout").read_text().startswith("torch.Size([72, 64])"), (tmp_path / "stderr").read_text()


def test_no_method_is_imported_to_use_a_checkpoint(shapes_root: Path, photo: Path, tmp_path: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    data = META["data"] | {"name": "shapes", "classes": list(dataset.classes), "palette": list(dataset.palette)}
    run = make_run(tmp_path / "run", data=data, model=META["model"] | {"classes": len(dataset.classes)})
    code = f"""
from pathlib import Path
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.export import export_network, model_card
from semiseg_cli.stages.predict import predict_images
run = Path({str(run)!r})
print(evaluate_checkpoint(run, root=Path({str(shapes_root)!r}), device="cpu")["images"])
print(predict_images(run, [Path({str(photo)!r})], out=Path("out"), device="cpu")["images"])
print(export_network(run, Path("again.safetensors"))["method"])
"""
    methods = [f"semiseg_cli.core.methods.{name}" for name in ("base", "fixmatch")]
    done = begun(run_without, methods, code, folder=tmp_path)
    done.join()
    assert (tmp_path / "stdout").read_text().split() == ["3", "1", "fixmatch"], (tmp_path / "stderr").read_text()


def test_where_it_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert export_network(run)["file"] == f"{run.name}.safetensors"
    assert export_network(run / "best.safetensors", tmp_path)["file"] == str(tmp_path / f"{run.name}.safetensors")
    loose = (run / "best.safetensors").rename(tmp_path / "net.safetensors")
    assert export_network(loose)["file"] == "net-export.safetensors"
    assert export_network(loose, tmp_path / "new" / "m.safetensors")["miou"] == 61.234
    assert (tmp_path / "new" / "m.md").is_file()


def test_where_it_cannot_be_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not name"):
        export_network(run, tmp_path / "model.pt")
    before = (run / "best.safetensors").read_bytes()
    with pytest.raises(UsageError, match="the checkpoint itself"):
        export_network(run, run / "best.safetensors")
    assert (run / "best.safetensors").read_bytes() == before
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "m.safetensors", Path("/proc/m.safetensors")):
        with pytest.raises(CheckpointError, match="cannot write"):
            export_network(run, out)


def test_what_is_no_network(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "run" / "resume" / "state.safetensors", {"train/a": torch.zeros(1)}, {"schema": 1})
    with pytest.raises(CheckpointError, match="is not a network") as caught:
        export_network(tmp_path / "run" / "resume" / "state.safetensors", tmp_path)
    assert str(tmp_path / "run") in caught.value.fix
    with pytest.raises(CheckpointError):
        semiseg_cli.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        export_network(tmp_path, tmp_path / "m.safetensors")


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8), (1, 8, 8, 3)])
def test_an_image_of_another_layout(run: Path, shape: tuple[int, ...]) -> None:
    net = semiseg_cli.load(run / "best.safetensors")
    with pytest.raises(ValueError, match="height, width, 3"):
        net(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        net(np.zeros((8, 8, 3), np.float32))
