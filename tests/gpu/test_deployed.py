"""What becomes of a network that was trained on CUDA, with whole images' statistics; and what goes over NCCL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from two import free_port

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.runs.results import read_result
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import Agreement, World, average_gradients, barrier, same_start, shared
from semiseg_cli.core.training.meeting import meet
from semiseg_cli.core.training.pooled import of_whole_images
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.export import export_network
from semiseg_cli.stages.exported_graph import running_onnx
from semiseg_cli.stages.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture
def exact() -> Iterator[None]:
    """Convolutions in float32 as the CPU has them."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True


@pytest.fixture
def run(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> Path:
    changes = {"train.pooled_images": 6, "train.steps": 4, "train.amp": "off"}
    places = {"data_root": shapes_root, "runs_root": tmp_path, "device": "cuda"}
    train(configured("fixmatch", changes), out=tmp_path / "run", **places)
    return tmp_path / "run"


def test_what_is_saved_is_what_was_measured(run: Path, shapes_root: Path) -> None:
    found = evaluate_checkpoint(run / "last.safetensors", root=shapes_root, device="cuda")
    assert found["miou"] == pytest.approx(read_result(run)["last"]["miou"], abs=0.1)


@pytest.mark.usefixtures("exact")
def test_whole_images_have_the_statistics_of_a_cpu(run: Path, shapes_root: Path) -> None:
    records = load_dataset(shapes_root, "shapes").train[:6]
    both = []
    for place in (torch.device("cpu"), torch.device("cuda")):
        net, meta = load_network(run / "last.safetensors", place)
        both.append(of_whole_images(Predictor.of(net, meta, place), records))
    (here,), (there,) = both
    assert all(values.is_cuda for values in there)
    for ours, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-3, atol=1e-4)


def test_its_onnx_graph_says_what_it_says(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = export_network(run, tmp_path / "net.onnx", format="onnx")
    net, meta = load_network(run / "best.safetensors")
    image_BHW3 = np.random.default_rng(0).integers(0, 256, (1, 50, 70, 3), np.uint8)
    mean, std = (torch.tensor(meta["normalise"][key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = net.eval()((torch.from_numpy(image_BHW3).permute(0, 3, 1, 2) / 255 - mean) / std).softmax(1)
    np.testing.assert_allclose(running_onnx(Path(found["file"]))(image_BHW3)[1], expected.numpy(), atol=1e-3)


def test_what_processes_exchange_goes_over_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a world that takes itself for two, and so exchanges all; over a group of one, for NCCL has a GPU for each."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    world = World(0, 2, torch.device("cuda", 0))
    meet("nccl")
    try:
        assert shared(Path("run"), world) == Path("run")
        parameter = nn.Parameter(torch.zeros(3, device=world.device))
        parameter.grad = torch.tensor([2.0, 4.0, 6.0], device=world.device)
        average_gradients([parameter], world)
        assert parameter.grad.tolist() == [1.0, 2.0, 3.0]
        module = nn.Linear(2, 2, device=world.device)
        before = module.weight.detach().clone()
        same_start(module, world)
        assert torch.equal(module.weight, before)
        stops = Agreement(world)
        assert [stops(False), stops(True), stops(False)] == [False, False, True]
        barrier(world)
    finally:
        dist.destroy_process_group()
