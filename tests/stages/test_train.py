"""Runs from configuration to directory: what is in it, that they repeat, go on, and lose nothing when they fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from same import same_tensors, timeless
from torch import nn

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import CheckpointError, DataError, Diverged, Interrupted, UsageError
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.stpg.method import STPG
from semiseg_cli.core.methods.supervised import Supervised
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.settings import hints
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.labeled_classes import class_frequencies, class_weights
from semiseg_cli.core.training.setup import open_session
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.stopping import let_in
from semiseg_cli.stages.train import resume, train

Configured = Callable[..., Resolved]


class Watcher(Silent):
    """A screen that remembers, and presses Ctrl-C (or has the machine send SIGTERM) after some step."""

    def __init__(self, stop_after: int = -1, number: int = signal.SIGTERM) -> None:
        self.stop_after, self.number = stop_after, number
        self.notes, self.rows, self.evaluations = list[str](), list[dict[str, Any]](), list[dict[str, Any]]()
        self.stopped = False

    def advance(self, step: int) -> None:
        if step == self.stop_after:
            os.kill(os.getpid(), self.number)

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def evaluated(self, row: dict[str, Any]) -> None:
        self.evaluations.append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def start(configured: Configured, shapes_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Take a run to its end (or wherever the screen stops it); its directory."""

    def make(
        name: str = "run",
        method: str = "unimatch",
        changes: dict[str, Any] | None = None,
        root: Path = shapes_root,
        **options: Any,
    ) -> Path:
        tau = {"method.tau": 0.3} if "tau" in hints(load_method(method).Settings) else {}
        resolved = configured(method, tau | (changes or {}))
        train(resolved, data_root=root, runs_root=tmp_path, out=tmp_path / name, device="cpu", **options)
        return tmp_path / name

    return make


def test_what_a_run_leaves_behind(start: Callable[..., Path], shapes_root: Path) -> None:
    screen = Watcher()
    run = start(screen=screen)
    assert {"config.toml", "environment.json", "metrics.jsonl", "last.safetensors", "best.safetensors", "resume",
            "result.json"} <= {path.name for path in run.iterdir()}  # fmt: skip
    assert not (run / "error.log").exists()
    assert screen.stopped

    rows = timeless(run)
    losses = [row for row in rows if "loss" in row]
    assert [row["step"] for row in losses] == [1, 2, 3, 4, 5]
    for row in losses:
        assert {"lr", "epoch", "kept", "largest_class"} <= row.keys()
        parts = [value for name, value in row.items() if name.startswith("loss_")]
        assert len(parts) == 4
        assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    measured = [row for row in rows if "miou" in row]
    assert [row["step"] for row in measured] == [4, 5]
    assert [row["step"] for row in screen.evaluations] == [4, 5]

    result = json.loads((run / "result.json").read_text())
    assert result["steps"] == 5
    assert result["method"] == "unimatch"
    assert result["last"] == {key: value for key, value in measured[-1].items() if key != "best_miou"}
    assert result["best"]["miou"] == max(row["miou"] for row in measured)

    dataset = load_dataset(shapes_root, "shapes")
    for name in ("last", "best"):
        _, meta = load_network(run / f"{name}.safetensors")
        assert meta["step"] == result[name]["step"]
        assert meta["miou"] == result[name]["miou"]
        assert meta["best"] == (name == "best")
        assert meta["method"] == "unimatch"
        assert meta["data"]["classes"] == list(dataset.classes)
        assert meta["partition"]["labeled"] == 6
        assert meta["partition"]["unlabeled"] == 8
        assert meta["config"]["method.tau"] == 0.3


def test_the_measured_network_is_the_saved_one(start: Callable[..., Path], shapes_root: Path) -> None:
    from semiseg_cli.core.inference.evaluation import evaluate
    from semiseg_cli.core.inference.predictor import Predictor

    run = start()
    dataset = load_dataset(shapes_root, "shapes")
    net, meta = load_network(run / "last.safetensors")
    found = evaluate(Predictor.of(net, meta, torch.device("cpu")), dataset, dataset.val)
    assert found.miou == pytest.approx(meta["miou"], abs=1e-9)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_seed_repeats_bit_for_bit(start: Callable[..., Path], method: str) -> None:
    one, two = start("one", method), start("two", method)
    assert timeless(one) == timeless(two)
    assert same_tensors(one / "last.safetensors", two / "last.safetensors")
    assert same_tensors(one / "resume" / "state.safetensors", two / "resume" / "state.safetensors")


def test_what_is_counted_by_class_is_logged_by_its_name(
    start: Callable[..., Path], shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, screen = load_dataset(shapes_root, "shapes").classes, Watcher()
    step = STPG.step

    def blind(self: STPG, batch: Any, *rest: Any) -> Any:  # to one of the classes
        mask = batch.labeled.mask_BHW
        return step(self, replace(batch, labeled=replace(batch.labeled, mask_BHW=mask.where(mask != 1, 255))), *rest)

    monkeypatch.setattr(STPG, "step", blind)
    run = start("named", "stpg", {"train.steps": 12, "train.log_every": 4, "method.match_after": 2}, screen=screen)
    rows = [row for row in timeless(run) if "loss" in row]
    for row in rows:
        assert list(row["kept_pixels"]) == list(row["pseudo_pixels"]) == list(classes)
        assert all(0 <= row["kept_pixels"][name] <= row["pseudo_pixels"][name] for name in classes)
    assert rows[-1]["unseen"] == {name: float(name == classes[1]) for name in classes}
    (line,) = [note for note in screen.notes if "no labeled pixel yet of" in note]
    assert line.startswith(f"step 8: no labeled pixel yet of: {classes[1]}. ")  # the first line after the first epoch
    state = load_file(run / "resume" / "state.safetensors")
    assert (state["train/method.contrast.assignment_K"] < 0).tolist() == [name == classes[1] for name in classes]


def test_another_seed_is_another_run(start: Callable[..., Path]) -> None:
    one = start("one", changes={"data.split_seed": 0})
    two = start("two", changes={"data.split_seed": 0, "train.seed": 1})
    assert [row["loss"] for row in timeless(one) if "loss" in row] != [
        row["loss"] for row in timeless(two) if "loss" in row
    ]


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("unimatch", {}),
        ("meanteacher", {}),
        ("fixmatch", {"method.cutmix_partner": "self", "train.optimizer": "adamw", "train.micro_batch": 1}),
        ("supervised", {"train.loss": "ohem"}),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_resumed_run_is_the_uninterrupted_one(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path, method: str, changes: dict[str, Any], number: int
) -> None:
    whole, run = start("whole", method, changes), tmp_path / "halves"
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Interrupted, match="step 2") as error:
        start("halves", method, changes, screen=Watcher(2, number))
    assert error.value.code == 130
    assert {n: signal.getsignal(n) for n in before} == before
    assert not (run / "result.json").exists()
    assert [row["step"] for row in timeless(run)] == [1, 2]
    with (run / "metrics.jsonl").open("a") as file:  # written after the state: the machine died before the next one
        file.write('{"step": 3, "loss": 99.0}\n')
    screen = Watcher()
    result = resume(run, data_root=shapes_root, device="cpu", screen=screen)
    assert f"{run} goes on from step 2 of 5" in screen.notes
    assert timeless(run) == timeless(whole)
    assert same_tensors(run / "last.safetensors", whole / "last.safetensors")
    assert same_tensors(run / "best.safetensors", whole / "best.safetensors")
    other = json.loads((whole / "result.json").read_text())
    assert (result["last"], result["best"]) == (other["last"], other["best"])


def test_resuming_and_pictures_need_no_weights_file(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path
) -> None:
    from semiseg_cli.stages.visualize import visualize

    weights = tmp_path / "encoder.safetensors"
    shutil.copy(start("first", "supervised") / "last.safetensors", weights)
    changes = {"model.weights": str(weights)}
    whole = start("whole", "stpg", changes)
    with pytest.raises(Interrupted):
        start("halves", "stpg", changes, screen=Watcher(2))
    weights.unlink()
    assert visualize(tmp_path / "halves", root=shapes_root, count=1, device="cpu")["images"]
    screen = Watcher()
    resume(tmp_path / "halves", data_root=shapes_root, device="cpu", screen=screen)
    assert timeless(tmp_path / "halves") == timeless(whole)
    for name in ("last", "best"):
        ours, theirs = (load_network(run / f"{name}.safetensors") for run in (tmp_path / "halves", whole))
        assert ours[1] == theirs[1]
        assert all(torch.equal(value, theirs[0].state_dict()[key]) for key, value in ours[0].state_dict().items())
    assert not any("encoder" in note for note in screen.notes)


def test_a_resumed_run_cannot_change(start: Callable[..., Path], shapes_root: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        start(screen=Watcher(1))
    with pytest.raises(UsageError, match="cannot change") as error:
        resume(tmp_path / "run", data_root=shapes_root, overrides={"train.lr": "0.5"}, device="cpu")
    assert "train.lr was 0.01, now 0.5" in error.value.why
    assert resume(tmp_path / "run", data_root=shapes_root, overrides={"train.lr": "0.01"}, device="cpu")["last"]


def test_a_finished_run_is_left_alone(start: Callable[..., Path], shapes_root: Path) -> None:
    run, screen = start(), Watcher()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert resume(run, data_root=shapes_root, device="cpu", screen=screen) == json.loads(
        (run / "result.json").read_text()
    )
    assert "finished" in screen.notes[0]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_without_a_state_cannot_go_on(start: Callable[..., Path], shapes_root: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        start(screen=Watcher(1))
    state = tmp_path / "run" / "resume" / "state.safetensors"
    data = state.read_bytes()
    state.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        resume(tmp_path / "run", data_root=shapes_root, device="cpu")
    state.unlink()
    with pytest.raises(CheckpointError, match="holds no resume state"):
        resume(tmp_path / "run", data_root=shapes_root, device="cpu")


def test_a_loss_that_is_not_finite(start: Callable[..., Path], tmp_path: Path) -> None:
    """What was saved while the loss was finite is still there, and can be loaded."""
    run = tmp_path / "run"
    with pytest.raises(Diverged) as error:
        start(changes={"train.lr": 1e30, "train.save_every": 1, "train.eval_every": 1, "train.steps": 50})
    assert error.value.code == 6
    assert (run / "error.log").read_text().count("Diverged") >= 1
    net, meta = load_network(run / "last.safetensors")
    assert meta["step"] == max(row["step"] for row in timeless(run) if "loss" in row)
    assert all(value.isfinite().all() for value in net.state_dict().values())
    load_network(run / "best.safetensors")
    assert not (run / "result.json").exists()


def test_the_run_directory_of_another_is_not_touched(start: Callable[..., Path]) -> None:
    run = start(method="supervised")
    before = (run / "metrics.jsonl").read_text()
    with pytest.raises(UsageError, match="exists already"):
        start(method="supervised")
    assert (run / "metrics.jsonl").read_text() == before


def test_a_dry_run_measures_and_writes_nothing(configured: Configured, shapes_root: Path, tmp_path: Path) -> None:
    found = train(configured(), data_root=shapes_root, runs_root=tmp_path / "runs", dry_run=True, device="cpu")
    assert not (tmp_path / "runs").exists()
    assert found["step_ms"] > 0
    assert found["gflop_per_step"] > 0
    assert found["labeled"] == 6
    assert found["unlabeled"] == 8


def test_epochs_become_steps_in_the_runs_configuration(start: Callable[..., Path], shapes_root: Path) -> None:
    run = start(changes={"train.steps": 0, "train.epochs": 2, "train.batch": 3})
    config = runs.read_config(run)
    assert (config["train.steps"], config["train.epochs"]) == (2 * (8 // 3), 2)
    assert read_metrics(run)[-1]["step"] == 4
    assert resume(run, data_root=shapes_root, overrides={"train.epochs": 2}, device="cpu")["steps"] == 4


def test_a_run_starts_from_a_checkpoint(start: Callable[..., Path], shapes_root: Path, tmp_path: Path) -> None:
    screen = Watcher()
    first = start("first", method="supervised")
    second = start(
        "second", "supervised", {"train.lr": 1e-12, "train.steps": 1}, init=first / "last.safetensors", screen=screen
    )
    assert any("last.safetensors" in note for note in screen.notes)
    a, b = load_file(first / "last.safetensors"), load_file(second / "last.safetensors")
    weights = [key for key in a if key.startswith("encoder.") and key.endswith("0.weight")]
    assert weights
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in weights)
    with pytest.raises(CheckpointError, match="does not fit"):
        start("third", "supervised", {"model.backbone": "mobilenet_v2"}, init=first / "last.safetensors")


def test_two_students_that_start_from_a_checkpoint_differ(start: Callable[..., Path]) -> None:
    first = start("first", method="supervised")
    run = start("two", "stpg", {"train.lr": 1e-12, "train.steps": 1}, init=first / "last.safetensors")
    state, given = load_file(run / "resume" / "state.safetensors"), load_file(first / "last.safetensors")
    convolutions = [key for key, value in given.items() if value.dim() == 4]
    shared = next(key for key in convolutions if key.startswith("encoder."))
    head = next(key for key in convolutions if key.startswith("decoder."))

    def student(name: str, key: str) -> torch.Tensor:
        return next(value for path, value in state.items() if path.endswith(f"{name}.{key}"))

    assert torch.allclose(student("gen", head), given[head], atol=1e-6)
    assert not torch.allclose(student("pro", head), given[head], atol=1e-3)
    assert torch.allclose(student("gen", shared), student("pro", shared), atol=1e-6)


def test_a_method_of_unlabeled_images_needs_some(configured: Configured, shapes_root: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    partition = replace(resolve_partition(dataset, ""), unlabeled=())
    with pytest.raises(DataError, match="unimatch needs unlabeled images"):
        open_session(configured().config, dataset, partition, World(), lambda line: None)
    session = open_session(configured("supervised").config, dataset, partition, World(), lambda line: None)
    assert session.epoch_images == 6


def test_a_batch_is_shared_among_devices(configured: Configured, shapes_root: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    partition = resolve_partition(dataset, "")
    with pytest.raises(UsageError, match="a batch of 2 cannot be divided among 3 devices"):
        open_session(configured(changes={"train.micro_batch": 1}).config, dataset, partition, World(0, 3), print)
    notes = list[str]()
    open_session(configured(changes={"train.micro_batch": 1}).config, dataset, partition, World(), notes.append)
    assert any("CutMix partners lie in others" in note for note in notes)
    open_session(configured(changes={"train.batch": 1}).config, dataset, partition, World(), notes.append)
    assert any("CutMix has no partner" in note for note in notes)


def test_a_class_without_a_labeled_pixel_is_named(configured: Configured, shapes_root: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    bare = replace(dataset, classes=(*dataset.classes, "unicorn"), palette=(*dataset.palette, (0, 0, 0)))
    labeled = tuple(replace(record, pixels=(*record.pixels, 0)) for record in dataset.labeled)
    partition = replace(resolve_partition(dataset, ""), labeled=labeled)
    notes = list[str]()
    open_session(configured().config, bare, partition, World(), notes.append)
    assert any("no labeled pixel of: unicorn" in note for note in notes)


def test_a_run_does_not_go_on_with_other_unlabeled_images(start: Callable[..., Path], tmp_path: Path) -> None:
    root = tmp_path / "data"
    lists = root / "shapes" / "splits" / "mine"
    prepare_shapes(root, labeled=6, unlabeled=8, val=3, size=48)
    lists.mkdir(parents=True)
    (lists / "labeled.txt").write_text("train_0000\ntrain_0001\n")
    (lists / "unlabeled.txt").write_text("train_0007\ntrain_0008\ntrain_0009\n")
    with pytest.raises(Interrupted) as stopped:
        start(changes={"data.labeled": "mine"}, screen=Watcher(2), root=root)
    assert stopped.value.fix == f"semiseg train --resume {tmp_path / 'run'} --root {root}"
    (lists / "unlabeled.txt").write_text("train_0007\n")
    with pytest.raises(CheckpointError, match="was written with 3 unlabeled images, now there are 1"):
        resume(tmp_path / "run", device="cpu")
    (lists / "unlabeled.txt").write_text("train_0007\ntrain_0008\ntrain_0009\n")
    assert resume(tmp_path / "run", device="cpu")["steps"] == 5, "the run knows where its data are"


def test_a_partition_in_which_nothing_is_known_is_refused(configured: Configured, shapes_root: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    partition = resolve_partition(dataset, "")
    void = tuple(replace(record, pixels=(0,) * len(dataset.classes)) for record in partition.labeled)
    with pytest.raises(DataError, match="none of 6 labeled images has a pixel of a known class"):
        open_session(configured().config, dataset, replace(partition, labeled=void), World(), print)


def test_frequencies_are_those_of_the_masks(shapes_root: Path) -> None:
    from semiseg_cli.core.data.decode import decode_mask

    dataset = load_dataset(shapes_root, "shapes")
    masks = [torch.from_numpy(decode_mask(record.mask)) for record in dataset.labeled if record.mask]
    expected = torch.stack(masks).flatten().bincount(minlength=6).double()
    assert class_frequencies(dataset.labeled, 6) == pytest.approx((expected / expected.sum()).tolist())


def test_class_weights_by_name() -> None:
    weights = class_weights([0.7, 0.2, 0.1], "pole=4, road=0.5", classes=("sky", "road", "pole"))
    assert weights is not None
    assert weights.tolist() == [1.0, 0.5, 4.0]
    with pytest.raises(UsageError, match="'raod' is none") as error:
        class_weights([0.7, 0.3], "raod=2", classes=("sky", "road"))
    assert error.value.fix == "did you mean 'road'? (known: road, sky)"


def test_class_weights() -> None:
    assert class_weights([0.5, 0.5], "none") is None
    sqrt, inverse = class_weights([0.64, 0.16, 0.0, 0.2], "sqrt"), class_weights([0.64, 0.16, 0.0, 0.2], "inverse")
    assert sqrt is not None
    assert inverse is not None
    for found, raw in ((sqrt, [1 / 0.8, 1 / 0.4, 0.0, 0.2**-0.5]), (inverse, [1 / 0.64, 1 / 0.16, 0.0, 1 / 0.2])):
        mean = sum(raw) / 3  # over the classes that occur
        assert found.tolist() == pytest.approx([weight / mean for weight in raw], rel=1e-6)
        assert found.dtype == torch.float32


@pytest.mark.parametrize("batch", [3, 1])
def test_a_batch_that_cannot_be_divided_is_refused(configured: Configured, shapes_root: Path, batch: int) -> None:
    """Also where there are more devices than images."""
    dataset = load_dataset(shapes_root, "shapes")
    config, partition = configured("supervised", {"train.batch": batch}).config, resolve_partition(dataset, "")
    with pytest.raises(UsageError, match="cannot be divided"):
        open_session(config, dataset, partition, World(size=2), lambda line: None)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"train.save_every": 40, "train.eval_every": 40}, "nothing had been saved yet"),
        (
            {"train.save_every": 40, "train.eval_every": 1},
            "the best network, of step 1 was kept, a state had not been saved yet",
        ),
        ({"train.save_every": 1, "train.eval_every": 40}, "state and network of step 1 were kept"),
        (
            {"train.save_every": 1, "train.eval_every": 1},
            "state and network of step 1 were kept, and the best network, of step 1",
        ),
    ],
)
def test_a_run_that_diverges_says_what_it_has(
    start: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], kept: str
) -> None:
    step, calls = STPG.step, list[int]()

    def broken(self: STPG, *rest: Any) -> Any:  # from the second step on
        calls.append(1)
        out = step(self, *rest)
        return replace(out, losses={k: v * (torch.nan if len(calls) > 1 else 1) for k, v in out.losses.items()})

    monkeypatch.setattr(STPG, "step", broken)
    with pytest.raises(Diverged) as error:
        start(method="stpg", changes=changes)
    assert error.value.why.startswith("usually a learning rate that is too high; its images: labeled: /")
    assert error.value.why.endswith(f".png; {kept}")
    assert (tmp_path / "run" / "last.safetensors").exists() == ("state and" in kept)
    assert (tmp_path / "run" / "best.safetensors").exists() == ("best" in kept)


class Impatient(Watcher):
    """Sends the signal while networks are built, or right after that."""

    def __init__(self, number: int, part: str) -> None:
        super().__init__(number=number)
        self.part = part

    def note(self, text: str) -> None:
        super().note(text)
        if self.part == "building":
            os.kill(os.getpid(), self.number)

    def start(self, title: str, steps: int) -> None:
        if self.part == "starting":
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_networks_are_built_leaves_nothing(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path, number: int
) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Interrupted, match="before the first step; nothing was saved") as error:
        start(screen=Impatient(number, "building"))
    assert error.value.code == 130
    assert error.value.fix == "the same command starts it anew"
    assert {n: signal.getsignal(n) for n in before} == before
    assert not (tmp_path / "run").exists()

    with pytest.raises(Interrupted):
        start(screen=Watcher(2, number))
    state = (tmp_path / "run" / "resume" / "state.safetensors").read_bytes()
    with pytest.raises(Interrupted, match="before the next step") as error:
        resume(tmp_path / "run", data_root=shapes_root, device="cpu", screen=Impatient(number, "building"))
    assert error.value.fix == f"semiseg train --resume {tmp_path / 'run'} --root {shapes_root}"
    assert (tmp_path / "run" / "resume" / "state.safetensors").read_bytes() == state
    assert resume(tmp_path / "run", data_root=shapes_root, device="cpu")["last"]


@pytest.mark.parametrize(("step", "kept"), [(1, "nothing had been saved yet"), (3, "state and network of step 2 were")])
def test_a_second_interrupt_ends_a_step_at_once_and_what_is_saved_stays(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, kept: str
) -> None:
    whole, screen, right = start("whole", "supervised", {"train.save_every": 2}), Watcher(), Supervised.step

    def pressed(self: Any, batch: Any, *more: Any) -> Any:
        if batch.clock.step == step:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return right(self, batch, *more)

    monkeypatch.setattr(Supervised, "step", pressed)
    with pytest.raises(Interrupted, match=f"stopped within step {step + 1}; {kept}") as error:
        start("run", "supervised", {"train.save_every": 2}, screen=screen)
    assert sum("Ctrl-C again ends it now" in note for note in screen.notes) == 1
    if step == 1:
        assert error.value.fix == "the same command starts it anew"
        return
    assert error.value.fix.startswith(f"semiseg train --resume {tmp_path / 'run'}")
    monkeypatch.setattr(Supervised, "step", right)
    resume(tmp_path / "run", data_root=shapes_root, device="cpu")
    assert timeless(tmp_path / "run") == timeless(whole)


@pytest.mark.parametrize("let", [True, False])
def test_an_interrupt_gets_into_a_long_backward_pass(let: bool) -> None:
    net = nn.Sequential(*(nn.Linear(256, 256) for _ in range(400)))
    if let:
        let_in(net)
    loss, before = net(torch.randn(64, 256)).sum(), signal.signal(signal.SIGALRM, signal.default_int_handler)

    def learn() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loss.backward()
        time.sleep(5)

    try:
        with pytest.raises(KeyboardInterrupt):
            learn()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (next(net.parameters()).grad is None) == let  # the first layer's gradient is the last


def test_a_directory_that_was_there_stays(start: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(Interrupted):
        start(screen=Impatient(signal.SIGTERM, "building"))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_signal_once_there_is_a_run_waits_for_its_first_step(
    start: Callable[..., Path], shapes_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="after step 1; the state is saved"):
        start(screen=Impatient(signal.SIGTERM, "starting"))
    assert resume(tmp_path / "run", data_root=shapes_root, device="cpu")["last"]


def test_no_worker_outlives_a_run_that_is_stopped(start: Callable[..., Path]) -> None:
    with pytest.raises(Interrupted) as error:
        start(changes={"train.workers": 2, "train.steps": 50}, screen=Watcher(1))
    assert error.tb is not None  # which holds on to everything
    assert multiprocessing.active_children() == []


def test_batch_norms_are_not_frozen_before_they_saw_an_image(start: Callable[..., Path]) -> None:
    screen = Watcher()
    run = start(method="supervised", changes={"model.freeze_bn": True, "train.steps": 2}, screen=screen)
    assert any(note.startswith("model.freeze_bn is off") for note in screen.notes)
    assert "freeze_bn = false" in (run / "config.toml").read_text()
    tensors = load_file(run / "last.safetensors")
    assert tensors["encoder.halves.0.1.running_mean"].abs().sum() > 0
