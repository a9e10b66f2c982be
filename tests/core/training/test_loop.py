"""The loop: accumulation, passes, when things happen, and what stops it. With a method without batch norm."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy import CONFIG, PLAN, Diary, Toy, TwoPasses, batches, wrapped

from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.errors import Diverged, Interrupted
from semiseg_cli.core.methods.base import Method
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.loop import fit
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer


def run(
    method: Method | None = None, plan: Plan = PLAN, diary: Diary | None = None, **changes: Any
) -> tuple[Method, Diary]:
    method, diary, config = method or Toy(), diary or Diary(), replace(CONFIG, **changes)
    optimizer = build_optimizer(method.groups(), config)
    fit(wrapped(method), optimizer, batches(plan), plan, config, World(), diary.hooks, epoch_images=16)
    return method, diary


def close(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("micro", [4, 2])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_accumulation_is_the_whole_batch(micro: int, clip: float) -> None:
    whole, diary = run(grad_clip=clip)
    parts, other = run(plan=replace(PLAN, micro=micro), grad_clip=clip)
    assert close(whole, parts)
    assert [row["loss"] for row in diary.rows] == pytest.approx([row["loss"] for row in other.rows], rel=1e-4)
    assert not close(whole, Toy())


def test_passes_add_their_gradients() -> None:
    whole, _ = run()
    parts, diary = run(TwoPasses(), plan=replace(PLAN, micro=4))
    assert close(whole, parts)
    row = diary.rows[0]
    assert row["loss"] == pytest.approx(row["loss_part0"] + row["loss_part1"])


def test_clipping_limits_the_step() -> None:
    start = Toy()
    before = torch.cat([p.detach().flatten() for p in start.parameters()])
    method, _ = run(start, plan=replace(PLAN, steps=1), grad_clip=0.05, momentum=0.0, weight_decay=0.0)
    after = torch.cat([p.detach().flatten() for p in method.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.1 * 0.05, rel=1e-3)


def test_everything_in_its_time() -> None:
    method, diary = run()
    assert method.clocks == [0, 1, 2, 3, 4, 5]
    assert diary.advanced == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in diary.rows] == [2, 4, 6]
    assert diary.evaluated == [4, 6]
    assert diary.saved == [3, 6]


def test_a_row_of_the_log() -> None:
    _, diary = run(log_every=4)
    first, last = diary.rows
    assert first["steps"] == 4
    assert last["steps"] == 2
    assert first["lr"] == pytest.approx(0.1 * (1 - 3 / 6) ** 0.9)
    assert first["epoch"] == 3 * 8 / 16
    assert first["loss"] == first["loss_labeled"] == pytest.approx(2 * first["share"])
    assert first["seconds"] > 0
    _, every = run(log_every=1)
    losses = [row["loss"] for row in every.rows]
    assert first["loss"] == pytest.approx(np.mean(losses[:4]), rel=1e-5)
    assert last["loss"] == pytest.approx(np.mean(losses[4:]), rel=1e-5)
    assert losses[-1] < losses[0]


def test_the_first_step_is_shown_and_changes_nothing_that_is_kept() -> None:
    _, diary = run()
    assert [row["step"] for row in diary.shown] == [1]
    assert (diary.shown[0]["steps"], diary.rows[0]["steps"]) == (1, 2)
    assert diary.shown[0]["loss"] == pytest.approx(run(log_every=1)[1].rows[0]["loss"])
    _, rest = run(plan=replace(PLAN, start=2))
    assert [row["step"] for row in rest.shown] == [3]
    assert [row["step"] for row in rest.rows] == [4, 6]
    assert run(log_every=1)[1].shown == []  # it is a line of the log


def test_without_evaluations_there_is_one_at_the_end() -> None:
    assert run(eval_every=0)[1].evaluated == [6]


@pytest.mark.parametrize("log_every", [1, 2, 6])
def test_a_loss_that_is_not_finite_ends_the_run(log_every: int) -> None:
    diary = Diary()
    with pytest.raises(Diverged, match=r"at step 4$") as error:  # whenever it is noticed
        run(Toy(bad_step=3), diary=diary, log_every=log_every, eval_every=0)
    assert error.value.code == 6
    assert "train.lr=" in error.value.fix
    assert error.value.why == "usually a learning rate that is too high"  # what was kept only the hooks know
    assert diary.saved == [3]  # from before
    assert diary.evaluated == []
    assert all(np.isfinite(row["loss"]) for row in diary.rows)


def test_nothing_is_saved_from_a_loss_that_is_not_finite() -> None:
    diary = Diary()
    with pytest.raises(Diverged):
        run(Toy(bad_step=2), diary=diary, log_every=6)
    assert diary.saved == []


def test_a_request_to_stop_saves_first() -> None:
    diary, method = Diary(stop_at=2), Toy()
    with pytest.raises(Interrupted, match="after step 2") as error:
        run(method, diary=diary)
    assert error.value.code == 130
    assert diary.saved == [2]
    assert method.clocks == [0, 1]


@pytest.mark.parametrize(("stop", "evaluated"), [({"stop_at": 4}, []), ({"stop_in": 4}, [4]), ({"stop_at": 6}, [4])])
def test_a_request_before_or_in_an_evaluation_saves_and_leaves_it(stop: dict[str, int], evaluated: list[int]) -> None:
    diary, step = Diary(**stop), max(stop.values())
    with pytest.raises(Interrupted, match=f"after step {step}; the state is saved; its evaluation is still to be done"):
        run(diary=diary)
    assert diary.saved == [3, step]
    assert diary.evaluated == evaluated


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_the_log_of_a_resumed_run_is_that_of_the_whole(stop: int) -> None:
    """Bit for bit, also where it was stopped between log lines: the sums since the last one go on."""
    _, whole = run(log_every=4, momentum=0.0)
    half, diary, meter = Toy(), Diary(stop_at=stop), Meter()
    config = replace(CONFIG, log_every=4, momentum=0.0)
    optimizer = build_optimizer(half.groups(), config)
    with pytest.raises(Interrupted):
        fit(wrapped(half), optimizer, batches(PLAN), PLAN, config, World(), diary.hooks, 16, meter)
    tensors, plain = meter.state()
    again, rest, plan = Meter(), Diary(), replace(PLAN, start=stop)
    again.load({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(plain)), "cpu")
    fit(wrapped(half), optimizer, batches(plan), plan, config, World(), rest.hooks, 16, again)

    def timeless(rows: list[dict[str, Any]]) -> str:
        return json.dumps([{k: v for k, v in row.items() if k != "seconds"} for row in rows])

    assert timeless(diary.rows + rest.rows) == timeless(whole.rows)
    assert rest.rows[0]["seconds"] > meter.seconds  # those before it was stopped count as well


def test_a_state_without_a_meter_begins_at_a_log_line() -> None:
    meter = Meter()
    meter.load({}, {}, "cpu")
    assert (meter.counts, meter.steps, meter.seconds, meter.tally) == ({}, 0, 0.0, None)


def test_a_start_in_the_middle_is_the_rest() -> None:
    _, whole = run(log_every=1)
    half, diary = Toy(), Diary(stop_at=3)
    with pytest.raises(Interrupted):
        run(half, diary=diary, log_every=1, momentum=0.0)
    _, rest = run(half, plan=replace(PLAN, start=3), log_every=1, momentum=0.0)
    _, plain = run(log_every=1, momentum=0.0)
    assert [r["loss"] for r in diary.rows + rest.rows] == [r["loss"] for r in plain.rows]
    assert [r["lr"] for r in diary.rows + rest.rows] == [r["lr"] for r in whole.rows]


def test_a_meter_averages_by_name() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)})
    meter.add({"a": torch.tensor(2.0, dtype=torch.bfloat16)})
    assert meter.means() == {"a": 1.5, "b": 4.0}
    assert meter.finite()
    meter.add({"b": torch.tensor(float("inf"))})
    assert not meter.finite()
    assert Meter().finite()
    assert Meter().means() == {}


def test_a_meter_begins_anew_in_the_same_memory() -> None:
    meter, given = Meter(), torch.tensor(3.0)
    meter.add({"early": torch.tensor(7.0), "a": given})
    total = meter.sums["a"]
    meter.reset()
    assert meter.means() == {}
    meter.add({"a": torch.tensor(1.0)})
    meter.add({"a": torch.tensor(2.0)})
    assert meter.means() == {"a": 1.5}  # what came early alone is not told of again
    assert meter.sums["a"] is total
    assert given == 3


def test_a_meter_takes_vectors_by_class() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0), "kept": torch.tensor([4.0, 0.0, 1.0]), "b": torch.tensor(2.0)})
    meter.add({"kept": torch.tensor([2, 1, 0]), "b": torch.tensor(4.0)})
    assert meter.means() == {"a": 1.0, "kept": [3.0, 0.5, 0.5], "b": 3.0}
    assert meter.finite()
    meter.add({"kept": torch.tensor([1.0, torch.nan, 1.0])})
    assert not meter.finite()
