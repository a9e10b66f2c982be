"""`export --onnx` and `--pt2`: the graph says what the network says, at any size, and the card's lines what `predict`
writes. Each kind of network is exported once.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import load_network, save_network
from semiseg_cli.stages import export as stage
from semiseg_cli.stages import exported_graph
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.model_card import model_card
from semiseg_cli.stages.predict import predict_images

SIZES = [(1, 65, 97), (2, 32, 50), (1, 56, 56), (1, 47, 110), (1, 17, 33)]  # 56 x 56: `short_vit`'s own grid
KINDS = {  # the network, the kind of file, half
    "cnn": ("small", "deeplabv3plus", "onnx", False),
    "vit": ("short_vit", "mlp", "onnx", True),
    "program": ("small", "deeplabv3plus", "pt2", False),
}


def meta_of(backbone: str, decoder: str, **data: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "model": {"backbone": backbone, "decoder": decoder, "output_stride": 16, "classes": 3},
        "data": {"name": "park", "kind": "folder", "classes": ["sky", "tree", "road"], "licence": "", "ignore": 255,
                 "palette": [[10, 20, 30], [0, 200, 0], [90, 90, 250]], "window": 0, "long_side": 0, **data},
        "partition": {"name": "all 2", "fingerprint": "abc", "labeled": 2, "unlabeled": 0},
        "normalise": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]},
        "config": {"eval.window": "auto", "eval.stride": 0.5, "eval.batch": 2, "train.amp": "auto"},
        "method": "fixmatch", "step": 30, "miou": None, "best": True,
    }  # fmt: skip


def sharpened(backbone: str, decoder: str) -> torch.nn.Module:
    """An untrained network whose classes differ from place to place."""
    net = build_segmenter(backbone, decoder, 3)
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in net.modules() if isinstance(module, _BatchNorm)):
        norm.running_mean.normal_(0, 0.2, generator=generator)
        norm.running_var.uniform_(0.5, 1.5, generator=generator)
    noise = torch.rand(1, 3, 9, 9, generator=generator).repeat_interleave(10, 2).repeat_interleave(10, 3)
    with torch.no_grad():
        logits_1KHW, last = net.eval()((noise - 0.5) * 4), net.decoder.classifier
        scale_K = 2 / logits_1KHW.std((0, 2, 3))
        last.bias.copy_((last.bias - logits_1KHW.mean((0, 2, 3))) * scale_K)
        last.weight *= scale_K[:, None, None, None]
    return net


class Exported:
    def __init__(self, folder: Path, backbone: str, decoder: str, format: str, half: bool) -> None:
        self.checkpoint = folder / "net.safetensors"
        save_network(self.checkpoint, sharpened(backbone, decoder), meta_of(backbone, decoder))
        with pytest.MonkeyPatch.context() as patch:  # what was written has been loaded once, which takes seconds
            patch.setattr(f"{exported_graph.__name__}.running_{format}", self.loading(format))
            self.found = export_network(self.checkpoint, folder / f"m.{format}", format=format, half=half)
        self.file = Path(self.found["file"])
        self.net, self.meta = load_network(self.checkpoint)
        for parameter in self.net.parameters():
            if half and parameter.ndim > 1:
                parameter.data = parameter.data.half().float()

    def loading(self, format: str) -> Callable[[Path], exported_graph.Run]:
        load = getattr(exported_graph, f"running_{format}")

        def loaded(path: Path) -> exported_graph.Run:
            self.run = load(path)
            return self.run

        return loaded


@pytest.fixture(scope="module", autouse=True)
def _untold() -> Iterator[None]:
    """torch.export tells its tracer's log every symbol, which pytest would keep: half of the time."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, vit_network: None, small_network: dict[str, Any]
) -> Callable[[str], Exported]:
    made, traced, trace = dict[str, Exported](), dict[str, Any](), exported_graph._traced

    def make(kind: str) -> Exported:
        if kind not in made:
            backbone, decoder, format, half = KINDS[kind]

            def once(*given: Any) -> Any:
                """Of a network that is exported in both formats one trace, which takes most of the time."""
                if backbone not in traced:
                    traced[backbone] = trace(*given)
                return traced[backbone]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exported_graph, "_traced", once)
                made[kind] = Exported(tmp_path_factory.mktemp(kind), backbone, decoder, format, half)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_network_says(kind: str, exported: Callable[[str], Exported]) -> None:
    one, rng = exported(kind), np.random.default_rng(5)
    mean, std = (torch.tensor(one.meta["normalise"][key])[:, None, None] for key in ("mean", "std"))
    classes = set[int]()
    for size in SIZES:
        image_BHW3 = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        with torch.no_grad():
            probs_BKHW = one.net((torch.from_numpy(image_BHW3).permute(0, 3, 1, 2) / 255 - mean) / std).softmax(1)
        labels_BHW, probabilities_BKHW = one.run(image_BHW3)
        assert (labels_BHW.dtype, probabilities_BKHW.dtype) == (np.uint8, np.float32)
        np.testing.assert_allclose(probabilities_BKHW, probs_BKHW.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_array_equal(labels_BHW, probabilities_BKHW.argmax(1))
        classes |= set(np.unique(labels_BHW).tolist())
    assert len(classes) > 1
    assert one.found["largest_difference"] < 1e-4
    assert one.found["format"] == KINDS[kind][2]


def test_half_is_half_as_large(exported: Callable[[str], Exported]) -> None:
    for kind, (backbone, decoder, _, half) in KINDS.items():
        weights = 4 * sum(p.numel() for p in build_segmenter(backbone, decoder, 3).parameters())
        size = exported(kind).found["bytes"] - 75_000 * (kind == "vit")  # its nodes: it has few weights
        assert (size < 0.75 * weights) == half, kind


def test_the_file_says_what_it_is_and_nothing_of_this_machine(exported: Callable[[str], Exported]) -> None:
    one = exported("cnn")
    session = onnxruntime.InferenceSession(one.file)
    told = session.get_modelmeta()
    assert json.loads(told.custom_metadata_map["semiseg"])["data"]["classes"] == ["sky", "tree", "road"]
    assert told.producer_name == "semiseg"
    assert [x.shape for x in session.get_inputs()] == [["batch", "height", "width", 3]]
    assert [(x.name, x.type) for x in session.get_outputs()] == [
        ("labels", "tensor(uint8)"), ("probabilities", "tensor(float)"),
    ]  # fmt: skip
    for kind in KINDS:
        assert str(Path(__file__).parents[2]).encode() not in exported(kind).file.read_bytes()
    assert exported("program").found["card"] == str(exported("program").file.with_suffix(".pt2.md"))


LOOKS: list[dict[str, Any]] = [{}, {"long_side": 60}, {"window": 48}, {"long_side": 80, "window": 48}]


@pytest.mark.parametrize(("kind", "look"), [*(("cnn", look) for look in LOOKS), ("program", LOOKS[1])])
def test_the_lines_of_the_card_write_what_predict_writes(
    kind: str,
    look: dict[str, Any],
    exported: Callable[[str], Exported],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, (backbone, decoder, *_) = exported(kind), KINDS[kind]
    meta = meta_of(backbone, decoder, **look)
    save_network(tmp_path / "net.safetensors", sharpened(backbone, decoder), meta)
    colours = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    Image.fromarray(colours.repeat(9, 0).repeat(7, 1)).save(tmp_path / "photo.png")
    predict_images(tmp_path / "net.safetensors", [tmp_path / "photo.png"], out=tmp_path / "out", device="cpu")
    expected = np.array(Image.open(tmp_path / "out" / "labels" / "photo.png"))
    (tmp_path / one.file.name).symlink_to(one.file)
    lines = re.search(r"```python\n(.*?)```", model_card(one.file.name, {}, meta), re.DOTALL)
    assert lines is not None
    assert "semiseg" not in lines[1]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines[1].replace("photo.jpg", "photo.png"), found)
    assert found["labels"].dtype == np.uint8
    assert len(np.unique(expected)) > 1
    assert (found["labels"] != expected).mean() < 1e-3  # a pixel between two classes


def test_the_card_says_all_that_predict_does() -> None:
    meta = meta_of("dinov2_s", "dpt", long_side=728, window=518, levels=(300, 4000))
    graph, own = model_card("m.onnx", {}, meta), model_card("m.safetensors", {}, meta)
    for fact in (
        "the values 300 to 4000 become 0 to 255", "long side of 728", "windows of 518 pixels, 259 apart",
        "multiple of 14", "less 0.4, 0.5, 0.6, divided by 0.2, 0.3, 0.25", "probabilities, not labels, enlarged",
    ):  # fmt: skip
        assert fact in graph, fact
        assert fact in own, fact
    assert "in the graph: each side brought" in graph
    assert "after the graph: the likeliest" in graph
    assert "in the graph" not in own
    assert "4,194,304 pixels, cut into windows of 1024, 512 apart" in model_card("m.onnx", {}, meta_of("tiny", "mlp"))


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_network(tmp_path / "net.safetensors", sharpened("tiny", "mlp"), meta_of("tiny", "mlp"))
    with pytest.raises(UsageError, match=r"does not name a \.onnx file"):
        export_network(tmp_path / "net.safetensors", tmp_path / "m.pt2", format="onnx")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UsageError, match="onnxruntime, which is not installed") as caught:
            export_network(tmp_path / "net.safetensors", tmp_path, format="onnx")
        assert caught.value.fix == "pip install 'semiseg[onnx]'"
    with monkeypatch.context() as patch:
        patch.setattr("semiseg_cli.stages.exported_graph.largest_difference", lambda *_: 0.002)
        patch.setattr("semiseg_cli.stages.exported_graph._traced", lambda *_: None)
        patch.setattr("semiseg_cli.stages.exported_graph._write_onnx", lambda *_: None)
        patch.setattr("semiseg_cli.stages.exported_graph.running_onnx", lambda *_: None)
        with pytest.raises(CheckpointError, match="tiny with mlp cannot be exported") as refused:
            export_network(tmp_path / "net.safetensors", tmp_path, format="onnx")
        assert refused.value.why == "its probabilities differ by up to 0.002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors"]
    assert set(stage.SUFFIXES) == {"safetensors", "onnx", "pt2"}
