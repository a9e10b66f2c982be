"""The branch of an image's mean has whole images' statistics in what is measured and saved, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_small import IS_TINY
from PIL import Image
from safetensors.torch import load_file
from same import same_tensors, timeless
from stopping import Stopping

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.files import STATE
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.runs import config_of
from semiseg_cli.core.runs.results import read_result
from semiseg_cli.core.training import session
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.pooled import FEWEST, branches, having, of_whole_images, spread
from semiseg_cli.core.training.setup import open_session
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import resume, train

NORM = "context.branches.4.norm"


def photos(folder: Path, sizes: list[tuple[int, int]]) -> list[Record]:
    records = []
    for number, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        records.append(Record(str(number), folder / f"{number}.png", None, height, width))
    return records


def predictor(decoder: str, **how: Any) -> Predictor:
    net = build_segmenter("tiny", decoder, 3)
    return Predictor(net=net, mean=[0.4] * 3, std=[0.2] * 3, device=torch.device("cpu"), **how)


def shown_whole(applied: Predictor, records: list[Record]) -> AbstractContextManager[None]:
    return having(applied.net, of_whole_images(applied, records))


def own(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "upernet"])
def test_statistics_are_those_of_the_whole_images(decoder: str, tmp_path: Path) -> None:
    records = photos(tmp_path, [(48, 64), (40, 40), (64, 48), (33, 50), (80, 64)])
    applied = predictor(decoder, long_side=64)
    net, (branch,) = applied.net.train(), branches(applied.net)
    before = own(net)
    expected = []
    net.eval()
    for record in records:
        pixels = applied.seen(np.array(Image.open(record.image)))
        x_13HW = torch.from_numpy((pixels.transpose(2, 0, 1)[None] / 255 - 0.4) / 0.2).float()
        deepest = net.encoder(x_13HW)[-1].double().mean((2, 3))
        expected.append((deepest @ branch.conv.weight.flatten(1).double().T)[0].detach().numpy())
    net.train()
    with shown_whole(applied, records):
        inside = own(net)
        assert net.training
    np.testing.assert_allclose(branch_statistics(inside, "running_mean"), np.mean(expected, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(branch_statistics(inside, "running_var"), np.var(expected, 0, ddof=1), rtol=1e-3)
    other = [name for name in before if not torch.equal(before[name], inside[name])]
    assert len(other) == 2
    assert all(torch.equal(value, before[name]) for name, value in own(net).items())


def branch_statistics(state: dict[str, torch.Tensor], name: str) -> Any:
    (found,) = (value for key, value in state.items() if key.endswith(f".norm.{name}") and is_pooled(key))
    return found.numpy()


def is_pooled(key: str) -> bool:
    return NORM in key or ".context.whole." in key


def test_windows_count_each(tmp_path: Path) -> None:
    """A network that is evaluated by windows sees their means."""
    records = photos(tmp_path, [(32, 64)])
    applied = predictor("deeplabv3plus", window=32, stride=1 / 4)  # five windows
    before = own(applied.net)
    with shown_whole(applied, records):
        assert not torch.equal(own(applied.net)[f"decoder.{NORM}.running_var"], before[f"decoder.{NORM}.running_var"])
    with shown_whole(predictor("deeplabv3plus"), records):
        pass


def test_too_few_images_and_broken_ones_change_nothing(tmp_path: Path) -> None:
    records = photos(tmp_path, [(40, 40)] * FEWEST)
    records[0].image.write_bytes(b"no photo")
    applied = predictor("deeplabv3plus")
    before = own(applied.net)
    with shown_whole(applied, records):
        assert all(torch.equal(value, before[name]) for name, value in own(applied.net).items())


def test_what_fails_within_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    applied = predictor("deeplabv3plus")
    before = own(applied.net)
    with pytest.raises(KeyboardInterrupt), shown_whole(applied, photos(tmp_path, [(40, 40)] * 4)):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[name]) for name, value in own(applied.net).items())


def test_images_lie_evenly_in_every_list() -> None:
    def ids(count: int, *sizes: int) -> list[str]:
        named = zip("ab"[: len(sizes)], sizes, strict=True)
        lists = [[Record(f"{name}{i}", Path(), None, 1, 1) for i in range(many)] for name, many in named]
        return [record.id for record in spread(lists, count)]

    assert ids(4, 4, 100) == ["a0", "a2", "b0", "b50"]
    assert ids(8, 3, 8) == ["a0", "a1", "a2", "b0", "b2", "b4", "b6"]
    assert ids(3, 6) == ["a0", "a2", "a4"]
    assert ids(0, 6, 6) == []


@pytest.fixture
def start(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, screen: Silent | None = None, **changes: Any) -> Path:
        quick = {"train.steps": 4, "train.eval_every": 2, "train.save_every": 100, "train.pooled_images": 6}
        resolved = configured("fixmatch", quick | IS_TINY | changes)
        train(resolved, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / name, device="cpu", screen=screen)
        return tmp_path / name

    return make


def test_what_is_saved_is_what_was_measured(start: Callable[..., Path], shapes_root: Path, tmp_path: Path) -> None:
    run = start("run")
    told = read_result(run)["last"]["miou"]
    found = evaluate_checkpoint(run / "last.safetensors", root=shapes_root, device="cpu")
    assert found["miou"] == pytest.approx(told, abs=1e-9)
    plain = start("plain", **{"train.pooled_images": 0})
    last, other = load_file(run / "last.safetensors"), load_file(plain / "last.safetensors")
    assert [name for name in last if not torch.equal(last[name], other[name])] == [
        f"decoder.{NORM}.running_mean", f"decoder.{NORM}.running_var",
    ]  # fmt: skip
    assert same_tensors(run / STATE, plain / STATE)  # training knows nothing of it


def test_a_step_that_is_measured_and_saved_is_shown_the_images_once(
    start: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = list[int]()

    def counting(applied: Predictor, records: list[Record]) -> Any:
        shown.append(len(records))
        return of_whole_images(applied, records)

    monkeypatch.setattr(session, "of_whole_images", counting)
    start("run", **{"train.eval_every": 2, "train.save_every": 2})
    assert shown == [6, 6]  # after steps 2 and 4


def test_a_resumed_run_has_the_same(start: Callable[..., Path], shapes_root: Path) -> None:
    whole = start("whole")
    with pytest.raises(Interrupted):
        start("cut", Stopping(3))
    resume(whole.parent / "cut", data_root=shapes_root, device="cpu")
    for name in ("last.safetensors", "best.safetensors"):
        assert same_tensors(whole / name, whole.parent / "cut" / name)
    assert timeless(whole) == timeless(whole.parent / "cut")


@pytest.mark.usefixtures("vit_network")
def test_a_decoder_without_that_branch_has_none(start: Callable[..., Path]) -> None:
    run = start("dpt", **{"model.backbone": "small_vit", "train.crop": 42})
    assert config_of(run).train.pooled_images == 0


@pytest.mark.parametrize("images", [0, 4])
def test_a_teacher_labels_with_its_batchs(images: int, configured: Callable[..., Resolved], shapes_root: Path) -> None:
    changes = {"train.pooled_images": images, "data.labeled": "4"} | IS_TINY
    config, dataset = configured("maskmatch", changes).config, load_dataset(shapes_root, "shapes")
    partition = resolve_partition(dataset, "4", seed=0)
    session = open_session(config, dataset, partition, World(), lambda line: None)
    with session.deployed(0):
        pass  # as an evaluation does, which leaves every module in the mode it was in
    teacher = session.method.teacher.train()
    (branch,) = branches(teacher)
    training = {id(module) for module in teacher.modules() if module.training}
    assert training == ({id(module) for module in branch.modules()} if images else set())
