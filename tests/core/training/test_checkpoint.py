"""Checkpoints: all there after a round trip, errors that name the file, and nothing lost on a full disk."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.training import checkpoint
from semiseg_cli.core.training.checkpoint import load_network, load_state, read, save_network, save_state, write
from semiseg_cli.core.training.meter import Meter

META = {
    "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
    "data": {"classes": ["a", "b", "c"], "licence": "CC0, über"},
    "step": 7,
    "miou": None,
}


def net(seed: int = 0) -> Segmenter:
    return build_segmenter("tiny", "deeplabv3plus", 3, seed=seed)


def toy() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def taught(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        module(torch.randn(2, 2, 5, 5, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def optimizer_of(kind: str, module: nn.Module) -> torch.optim.Optimizer:
    groups = [{"params": list(module[0].parameters())}, {"params": list(module[1:].parameters())}]
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.01, fused=True)
    return torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)


def test_a_network_comes_back_whole(tmp_path: Path) -> None:
    path, saved = tmp_path / "runs" / "best.safetensors", net()
    with torch.no_grad():
        saved.train()(torch.randn(2, 3, 33, 33))  # statistics of its own
    save_network(path, saved, META)
    loaded, meta = load_network(path)
    assert not loaded.training
    assert meta == {"schema": 1, **META}
    assert saved.state_dict().keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in saved.state_dict().items())
    x = torch.randn(1, 3, 33, 33)
    assert torch.equal(saved.eval()(x), loaded(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_state_goes_on_as_if_nothing_had_happened(tmp_path: Path, kind: str, layout: torch.memory_format) -> None:
    """NHWC too: a fused optimiser that finds its state in another layout than the weights mixes them up silently."""
    one = toy().to(memory_format=layout)
    first = optimizer_of(kind, one)
    taught(one, first, 3)
    save_state(tmp_path / "state.safetensors", one, first, {"step": 3, "best": {"miou": 41.5}})
    two = toy().to(memory_format=layout)
    second = optimizer_of(kind, two)
    meta = load_state(tmp_path / "state.safetensors", two, second)
    assert meta["step"] == 3
    assert meta["best"] == {"miou": 41.5}
    taught(one, first, 4)
    taught(two, second, 4)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


def test_a_new_file_replaces_the_old_one_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write(path, {"x": torch.zeros(3)}, {"schema": 1})
    write(path, {"x": torch.ones(3)}, {"schema": 1})
    assert read(path)[0]["x"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_views_of_one_tensor_are_saved(tmp_path: Path) -> None:
    """NHWC weights and slices are laid out anew."""
    table = torch.arange(24.0).view(1, 2, 3, 4)
    write(tmp_path / "x", {"nhwc": table.to(memory_format=torch.channels_last), "part": table[..., :2]}, {"schema": 1})
    tensors, _ = read(tmp_path / "x")
    assert torch.equal(tensors["nhwc"], table)
    assert torch.equal(tensors["part"], table[..., :2])


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        load_network(path)
    assert error.value.code == 5
    assert str(path) in error.value.what
    return error.value


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.safetensors").fix


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(tmp_path: Path, part: float) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, net(), META)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert "truncated" in refused(path).why


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"PK\x03\x04 a pickle from somewhere" * 40)
    refused(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None, {"format": "pt"}, {"semiseg": '{"schema": 99}'}, {"semiseg": "{}"}, {"semiseg": "not JSON"},
        {"semiseg": "[]"}, {"semiseg": "7"}, {"semiseg": "null"}, {"semiseg": '"schema"'},
    ],
)  # fmt: skip
def test_a_foreign_safetensors_file(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(3)}, path, metadata=metadata)
    refused(path)


@pytest.mark.parametrize("meta", [{"schema": 1}, {"schema": 1, "model": 7}, {"schema": 1, "model": {"decoder": "x"}}])
def test_a_file_that_says_nothing_of_a_network_is_no_state_either(tmp_path: Path, meta: dict[str, Any]) -> None:
    write(tmp_path / "odd.safetensors", {"x": torch.zeros(3)}, meta)
    error = refused(tmp_path / "odd.safetensors")
    assert "is not a network" in error.what
    assert "backbone" in error.why
    assert "resume" not in error.why
    save_state(tmp_path / "state.safetensors", toy(), optimizer_of("sgd", toy()), {"step": 3})
    assert "resume state" in refused(tmp_path / "state.safetensors").why


def test_what_does_not_fit_is_told_in_a_few_words(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, net(), {**META, "model": {**META["model"], "backbone": "mobilenet_v2"}})
    error = refused(path)
    assert len(error.why) < 600
    for what in ("missing", "unexpected", "of another shape", "more"):
        assert what in error.why
    assert error.fix


@pytest.mark.parametrize("damage", ["truncated", "a network", "another method's", "no optimiser's"])
@pytest.mark.parametrize("last", [True, False])
def test_a_state_that_cannot_be_used_leaves_a_new_run(tmp_path: Path, damage: str, last: bool) -> None:
    run = tmp_path / "a run"
    state, module = run / "resume" / "state.safetensors", toy()
    save_state(state, module, optimizer_of("sgd", module), {"step": 3})
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-9])
    elif damage == "another method's":
        module = nn.Sequential(*toy(), nn.Conv2d(1, 1, 1))
    elif damage == "a network":
        save_network(state, net(), META)
    else:
        write(state, {f"train/{key}": value for key, value in module.state_dict().items()}, {"schema": 1, "step": 3})
    if last:
        (run / "config.toml").touch()
        (run / "last.safetensors").touch()
    with pytest.raises(CheckpointError) as caught:
        load_state(state, module, optimizer_of("sgd", module))
    assert str(state) in caught.value.what
    words = f"-c '{run}/config.toml' --init '{run}/last.safetensors'"
    assert caught.value.fix == (f"a new run from its last network: semiseg train {words}" if last else
                                "a new run: semiseg train")  # fmt: skip


@pytest.mark.parametrize("where", ["last.safetensors", "resume/state.safetensors"])
@pytest.mark.parametrize("saved", [True, False])
def test_a_disk_that_takes_no_file_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, saved: bool
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    run = tmp_path / "a run"
    if saved:
        write(run / "resume" / "state.safetensors", {"x": torch.zeros(3)}, {"schema": 1})
    monkeypatch.setattr("semiseg_cli.core.files.os.fsync", full)
    with pytest.raises(CheckpointError, match="cannot write") as caught:
        write(run / where, {"x": torch.ones(3)}, {"schema": 1})
    assert "No space left" in caught.value.why
    assert (f"semiseg train --resume '{run}'" in caught.value.fix) == saved
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        write(tmp_path / "file" / where, {"x": torch.ones(3)}, {"schema": 1})


@pytest.mark.parametrize("change", [{"classes": 4}, {"backbone": "mobilenet_v2"}])
def test_tensors_that_do_not_fit_the_network(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, net(), {"model": {**META["model"], **change}})
    assert "does not fit" in refused(path).what


def _write_with_little_space(path: Path, queue: Any) -> None:
    """In a process of its own: no file may grow beyond 64 KB, as if the disk were full. Python ignores SIGXFSZ."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
    try:
        write(path, {"x": torch.ones(10**6)}, {"schema": 1})
    except CheckpointError as error:
        queue.put((error.code, error.what, error.fix))
    else:
        queue.put("written")


def test_the_previous_file_survives_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write(path, {"x": torch.zeros(3)}, {"schema": 1, "step": 1})
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_write_with_little_space, args=(path, queue))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    code, what, fix = queue.get()
    assert code == 5
    assert str(path) in what
    assert "space" in fix
    assert read(path)[1]["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {**META["model"], "classes": "3"}}, "model.classes is '3'"),
        ({"model": {**META["model"], "classes": 10**9}}, r"model.classes is '1000000000'"),
        ({"model": {**META["model"], "backbone": 7}}, "model.backbone is '7', not text"),
        ({"data": {"classes": ["a"]}}, "data.classes has 1 names for 3 classes"),
        ({"data": {"palette": [[1, 2, 300]]}}, r"data.palette\[0\]\[2\] is '300'"),
        ({"data": {"levels": [9, 3]}}, "data.levels is 9 to 3"), ({"data": []}, r"data is '\[\]', not a table"),
        ({"data": {"window": -1}}, "data.window"), ({"miou": "9"}, "miou is '9'"), ({"step": None}, "step is 'None'"),
        ({"normalise": {"mean": [0, 0, 0], "std": [1, 1, 0]}}, r"normalise.std\[2\] is '0', not more than 0"),
        ({"normalise": {"mean": [0, 0, 0]}}, "normalise lacks 'std'"), ({"encoder": {"weights": 1}}, "encoder"),
        ({"config": {"eval.batch": "x"}}, r"config.eval.batch is 'x'"),
    ],
)  # fmt: skip
def test_metadata_of_another_type_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, net(), META | change)
    error = refused(path)
    assert "damaged metadata" in error.what
    assert re.search(said, error.why), error.why


def test_a_small_file_that_claims_a_large_network_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(tmp_path / "x", net(), META | {"model": {**META["model"], "backbone": "dinov2_l"}})
    monkeypatch.setattr(checkpoint, "build_segmenter", lambda *args, **options: pytest.fail("it was made"))
    assert "those of dinov2_l" in refused(tmp_path / "x").why


def test_what_a_file_does_not_say_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_network(path, net(), META)
    _, meta = load_network(path)
    assert meta["data"].get("window", 5) == 5
    for table, key in ((meta, "normalise"), (meta["data"], "window")):
        with pytest.raises(CheckpointError, match=rf"best\.safetensors does not say its '{key}'"):
            table[key]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("optimizer/99/momentum_buffer", (3,)), ("optimizer/x/momentum_buffer", (3,)), ("optimizer/0", (3,)),
        ("optimizer/0/exp_avg", (3, 2, 3, 3)), ("optimizer/0/momentum_buffer", (1,)), ("since/sums", (3,)),
        ("since/sums/loss", (3,)), ("since/tally", (4,)), ("since/what", ()),
    ],
)  # fmt: skip
def test_a_state_with_something_else_in_it(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    module = toy()
    optimizer, state = optimizer_of("sgd", module), tmp_path / "run" / "resume" / "state.safetensors"
    taught(module, optimizer, 1)
    save_state(state, module, optimizer, {"step": 1})
    tensors, meta = read(state)
    write(state, tensors | {name: torch.zeros(shape)}, meta)
    with pytest.raises(CheckpointError, match=r"state\.safetensors (does not fit this run|is damaged)") as caught:
        load_state(state, module, optimizer, Meter())
    assert "a new run" in caught.value.fix


def test_a_state_that_an_earlier_version_poisoned_is_told(tmp_path: Path) -> None:
    module, state = toy(), tmp_path / "run" / "resume" / "state.safetensors"
    save_state(state, module, optimizer_of("sgd", module), {"step": 1})
    tensors, meta = read(state)
    tensors["train/0.bias"][1] = torch.nan
    save_file(tensors, state, {"semiseg": json.dumps(meta)})
    with pytest.raises(CheckpointError, match="not finite") as caught:
        load_state(state, module, optimizer_of("sgd", module))
    assert "train/0.bias" in caught.value.why
    assert "a new run" in caught.value.fix
