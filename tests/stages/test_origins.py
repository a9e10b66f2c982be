"""Where an encoder's first weights are from, and their licence: through a run, its resumption, and what is derived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file
from stopping import Stopping

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.training.checkpoint import load_network, read_network, write
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.train import resume, train

Start = Callable[..., Path]


@pytest.fixture
def start(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> Start:
    def make(name: str, weights: object, **options: Any) -> Path:
        model = {"model.backbone": "timm:test_efficientnet", "model.weights": str(weights), "model.decoder": "linear"}
        resolved = configured("meanteacher", model | {"train.steps": 2, "train.eval_every": 0})
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / name, device="cpu", **options)
        return tmp_path / name / "last.safetensors"

    return make


def test_the_licence_goes_with_whatever_is_derived(start: Start, shapes_root: Path, tmp_path: Path) -> None:
    weights = tmp_path / "brought.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    with pytest.raises(Interrupted):
        start("first", weights, screen=Stopping(1))
    weights.unlink()
    resume(tmp_path / "first", data_root=shapes_root, device="cpu")
    first = tmp_path / "first" / "last.safetensors"
    licence = "unknown (brought.safetensors), published weights of timm:test_efficientnet: apache-2.0"
    expected = Origin("brought.safetensors", licence)
    assert Origin.of(load_network(first)[1]) == expected

    again = start("again", "none", init=first, screen=(screen := Stopping()))
    assert f"network: {first}; licence of its encoder's first weights: {licence}" in screen.notes
    other = start("other", again, screen=(screen := Stopping()))
    assert [note for note in screen.notes if note.endswith(f"; licence of its first weights: {licence}")]
    exported = export_network(other, tmp_path / "net.safetensors")
    for path in (again, other, tmp_path / "net.safetensors"):
        net, meta = load_network(path)
        assert Origin.of(meta) == net.encoder.origin == expected, path
    card = (tmp_path / "net.md").read_text()
    assert exported["encoder"] in card
    assert f"began with brought.safetensors; licence: {licence}" in card
    assert "torch, torchvision, timm, safetensors are all it needs" in card


def test_what_dinov3_asks_for_stands_on_the_card(start: Start, tmp_path: Path) -> None:
    tensors, meta = read_network(start("run", "none"))
    assert meta["encoder"] == {"weights": "", "licence": ""}
    assert "began with random weights" in export_network(tmp_path / "run", tmp_path / "random.safetensors")["encoder"]
    derived = tmp_path / "derived.safetensors"
    write(derived, tensors, meta | {"encoder": {"weights": "a.safetensors", "licence": "dinov3-license"}})
    found = export_network(derived, tmp_path / "net.safetensors")
    assert "passed on under the DINOv3 License alone" in found["encoder"]
    assert "dinov3-license/" in Path(found["card"]).read_text()


def test_a_checkpoint_from_before_says_nothing_and_opens(start: Start, tmp_path: Path) -> None:
    tensors, meta = read_network(start("run", "none"))
    del meta["encoder"]
    write(tmp_path / "old.safetensors", tensors, meta)
    assert load_network(tmp_path / "old.safetensors")[0].encoder.origin == Origin("unknown")
    found = export_network(tmp_path / "old.safetensors", tmp_path / "net.safetensors")
    assert found["encoder"] == "began with weights that are not recorded"
