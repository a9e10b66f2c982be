"""Numbers that are not finite: named, kept out of every saved file, and skipped without a trace where that is asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tape import Tapes
from torch import Tensor, nn
from toy import CONFIG, PLAN, Diary, Toy, batches, wrapped

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.loader import images_of
from semiseg_cli.core.errors import Diverged
from semiseg_cli.core.methods.base import Batch, Step, StepOutput, Views
from semiseg_cli.core.methods.supervised import Supervised
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.training.checkpoint import read, save_state
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.finite import IN_A_ROW, Guard, state_of, unfinite
from semiseg_cli.core.training.graph import REAL, Captured
from semiseg_cli.core.training.loop import fit
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock
from semiseg_cli.stages.train import train

NAN, ADAM = float("nan"), {"optimizer": "adamw", "lr": 0.01}


class Taught(Toy):
    """With a teacher, and a memory of the images' mean colours. Its gradient alone is not finite at some steps."""

    def __init__(self, *bad: int) -> None:
        super().__init__()
        self.bad = bad
        self.net.insert(1, nn.BatchNorm2d(5))
        self.teacher = Teacher(self.net)
        self.register_buffer("colours", torch.zeros(3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def step(self, batch: Batch, views: Views) -> Step:
        out = super().step(batch, views)
        assert isinstance(out, StepOutput)
        weight = self.net[0].weight
        good = batch.clock.value(lambda clock: float(clock.step not in self.bad), weight)
        root = (weight.sum() * 0 + good).sqrt()  # of 0 the gradient is infinity, times 0
        poison = root - root.detach()
        self.colours.add_(batch.labeled.rgb01_B3HW.mean((0, 2, 3)) / good)  # a memory that is poisoned as well
        self.seen.add_(1)
        return replace(out, losses={"labeled": out.losses["labeled"] + poison})

    def after_step(self, moment: Any) -> None:
        self.teacher.update(self.net, moment, 0.9)


def run(method: Any, diary: Diary, steps: int = 6, **changes: Any) -> dict[str, Tensor]:
    """The state that the steps lead to."""
    config, plan = replace(CONFIG, steps=steps, **changes), replace(PLAN, steps=steps)
    module, optimizer = wrapped(method), build_optimizer(method.groups(), config)
    hooks = replace(diary.hooks, note=diary.notes.append, images=lambda step: f"images of {step}")
    fit(module, optimizer, batches(plan), plan, config, World(), hooks, epoch_images=16)
    return state_of(module, optimizer)


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(x, two[name]) for name, x in one.items())


@pytest.mark.parametrize("log_every", [1, 6])
def test_a_gradient_that_is_not_finite_on_a_step_that_saves(log_every: int) -> None:
    """Its loss is finite, and what would be saved is not."""
    diary = Diary()
    with pytest.raises(Diverged, match=r"at step 3$") as error:
        run(Taught(2), diary, log_every=log_every, eval_every=3)
    assert (diary.saved, diary.evaluated) == ([], [])
    assert "images of 2" in error.value.why


def test_weights_that_grow_beyond_all_bounds_are_not_saved() -> None:
    diary = Diary()
    with pytest.raises(Diverged, match=r"the network is not finite after step 1$") as error:
        run(Toy(), diary, save_every=1, lr=1e38, weight_decay=1e38)
    assert diary.saved == []
    assert "train/method.net" in error.value.why


def test_a_file_never_holds_what_is_not_finite(tmp_path: Path) -> None:
    method, path = Toy(), tmp_path / "state.safetensors"
    optimizer = build_optimizer(method.groups(), CONFIG)
    save_state(path, method, optimizer, {"step": 1})
    before = path.read_bytes()
    with torch.no_grad():
        method.net[0].bias[2] = NAN
    with pytest.raises(Diverged, match=r"net\.0\.bias") as error:
        save_state(path, method, optimizer, {"step": 2})
    assert error.value.code == 6
    assert path.read_bytes() == before
    assert read(path)[1]["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_only_floating_tensors_can_be_unfinite() -> None:
    tensors = {"a": torch.tensor([1.0, torch.inf]), "b": torch.tensor([2]), "c": torch.zeros(0), "d": torch.ones(2)}
    assert unfinite({**tensors, "e": torch.tensor(NAN, dtype=torch.bfloat16)}) == ["a", "e"]
    assert unfinite({"b": tensors["b"]}) == unfinite({}) == []


@pytest.mark.parametrize("changes", [{}, ADAM, {"grad_clip": 0.1}])
def test_nothing_changes_where_nothing_is_wrong(changes: dict[str, Any]) -> None:
    one, two = Diary(), Diary()
    assert equal(run(Taught(), one, **changes), run(Taught(), two, on_nonfinite="skip", **changes))
    assert [row["loss"] for row in one.rows] == [row["loss"] for row in two.rows]
    assert "skipped" not in one.rows[0]
    assert [row["skipped"] for row in two.rows] == [0, 0, 0]


@pytest.mark.parametrize("changes", [{}, ADAM, {"grad_clip": 0.1}])
def test_a_skipped_step_changes_nothing(changes: dict[str, Any]) -> None:
    """Neither networks, teacher, statistics and memories nor the optimiser's state."""
    update, take = taken(Taught(2, 4), **changes)
    states = [copy(update)]
    for step in range(6):
        take(step)
        states.append(copy(update))
    moved = [not equal(one, two) for one, two in itertools.pairwise(states)]
    assert moved == [True, True, False, True, False, True]
    assert not unfinite(states[-1])


def taken(method: Any, captured: bool = False, **changes: Any) -> tuple[Update, Callable[[int], None]]:
    """Steps one by one, that are skipped where they are bad."""
    config = replace(CONFIG, on_nonfinite="skip", steps=12, **changes)
    plan = replace(PLAN, steps=12)
    module, optimizer = wrapped(method), build_optimizer(method.groups(), config)
    guard = Guard(module, optimizer, World(), skip=True)
    update = Update(module, optimizer, plan, config.grad_clip, Meter(), World(), guard)

    def known() -> list[Tensor]:
        meter = [*update.meter.sums.values(), *update.meter.skipped.values()]
        rates = [group["lr"] for group in optimizer.param_groups]
        momenta = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
        tables = [stage.tables.buffer for stage in graphs.stages.values() if stage.tables.buffer is not None]
        own = [guard.bad, guard.tally, *guard.held, *module.parameters(), *module.buffers()]
        return [*meter, *rates, *momenta, *tables, *own]

    graphs = Captured(update, Tapes(known), print)
    hosts = batches(plan)

    def take(step: int) -> None:
        set_learning_rates(optimizer, step, config)
        (graphs if captured else update)(hosts, Clock(step, 12))

    return update, take


def copy(update: Update) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in state_of(update.train, update.optimizer).items()}


@pytest.mark.parametrize("changes", [{}, ADAM])
def test_a_captured_step_is_skipped_likewise(changes: dict[str, Any]) -> None:
    """A replayed one too, which never asks the host."""
    bad = (1, REAL + 2, REAL + 3, 10)
    (plain, take), (replayed, replay) = taken(Taught(*bad), **changes), taken(Taught(*bad), captured=True, **changes)
    for step in range(12):
        take(step)
        replay(step)
        assert equal(copy(plain), copy(replayed)), step
    assert plain.meter.means() == replayed.meter.means()
    assert replayed.guard is not None
    assert replayed.guard.read() == (1, 4, 0)
    assert replayed.train.method.seen == 8


def test_skipped_steps_are_counted_told_and_left_out_of_the_means() -> None:
    good, diary = Diary(), Diary()
    run(Taught(), good, log_every=1, eval_every=0)
    run(Taught(2, 3), diary, on_nonfinite="skip", eval_every=0, log_every=4)
    assert [row["skipped"] for row in diary.rows] == [2, 0]
    assert diary.rows[0]["loss"] == pytest.approx(sum(row["loss"] for row in good.rows[:2]) / 2)
    assert diary.notes == ["step 3 was skipped (and 1 more until now): not finite; its images: images of 2"]
    assert diary.saved == [3, 6]


def test_a_log_line_of_skipped_steps_alone_has_no_loss() -> None:
    diary = Diary()
    run(Taught(2, 3), diary, on_nonfinite="skip", eval_every=0)
    assert ["loss" in row for row in diary.rows] == [True, False, True]


def test_a_run_that_can_only_skip_ends() -> None:
    diary = Diary()
    with pytest.raises(Diverged, match=f"the last {IN_A_ROW} steps were skipped"):
        run(Taught(*range(3, 40)), diary, steps=40, on_nonfinite="skip", eval_every=0, log_every=1, save_every=50)
    assert len(diary.rows) == 2 + IN_A_ROW


def test_the_images_of_a_step_are_those_that_the_loader_takes() -> None:
    plan = replace(PLAN, batch=4, micro=2, inputs=frozenset({"unlabeled"}))
    labeled, unlabeled = images_of(plan, 7, 9, 3)
    assert len(labeled) == len(unlabeled) == 4
    assert images_of(replace(plan, inputs=frozenset()), 7, 0, 3) == (labeled, [])
    steps = [images_of(plan, 7, 9, step)[0] for step in range(7)]
    assert sorted(itertools.chain.from_iterable(steps)) == sorted([*range(7)] * 4)  # each once in each of four passes


def test_a_run_names_the_files_and_keeps_what_it_had(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a configuration to the end: the state of step 2 survives a bad step that would have been saved."""
    after = Supervised.after_step

    def poisoned(self: Any, moment: Any) -> None:
        after(self, moment)
        weight = next(iter(self.net.parameters())).data
        weight[:] = moment.value(lambda clock: NAN if clock.step == 3 else 0.0, weight) + weight

    monkeypatch.setattr(Supervised, "after_step", poisoned)
    changes = {"train.steps": 4, "train.save_every": 2, "train.eval_every": 2, "train.log_every": 1}
    resolved = configured("supervised", changes=changes)
    with pytest.raises(Diverged, match="the network is not finite after step 4") as error:
        train(resolved, data_root=shapes_root, runs_root=tmp_path, device="cpu")
    assert "state and network of step 2 were kept, and the best network, of step 2" in error.value.why
    (found,) = tmp_path.iterdir()
    for name in ("last.safetensors", "best.safetensors", "resume/state.safetensors"):
        tensors, meta = read(found / name)
        assert meta["step"] == 2
        assert not unfinite(tensors)
