"""Two processes on the CPU take the step that one process takes on the whole batch, and stop together."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from company import IMAGES, aggregated, s4mim, sums
from safetensors.torch import load_file, save_file
from toy import CONFIG, PLAN, Diary, TwoPasses, batches, wrapped
from two import in_two_processes

from semiseg_cli.core.errors import DeviceError, Diverged, Interrupted
from semiseg_cli.core.training import distributed
from semiseg_cli.core.training.distributed import World, any_process, barrier, join, joined
from semiseg_cli.core.training.loop import fit
from semiseg_cli.core.training.optim import build_optimizer


def run(
    world: World, micro: int, diary: Diary, bad_step: int = -1, on_nonfinite: Literal["stop", "skip"] = "stop"
) -> dict[str, torch.Tensor]:
    """Six steps of a method with two passes; its parameters."""
    method = TwoPasses(bad_step)
    train = wrapped(method)
    plan = replace(PLAN, micro=micro, rank=world.rank, world=world.size)
    optimizer, config = build_optimizer(method.groups(), CONFIG), replace(CONFIG, on_nonfinite=on_nonfinite)
    fit(train, optimizer, batches(plan), plan, config, world, diary.hooks, epoch_images=16)
    return {name: p.detach() for name, p in method.named_parameters()}


def process(folder: Path) -> None:
    with joined("cpu") as world:
        in_company(folder, world)


def in_company(folder: Path, world: World) -> None:
    assert any_process(world.rank == 1, world)
    assert not any_process(False, world)
    save_file(run(world, 2, Diary()), folder / f"{world.rank}.safetensors")
    diary = Diary()
    save_file(run(world, 2, diary, 3 if world.rank else -1, "skip"), folder / f"skipped-{world.rank}.safetensors")
    (folder / f"skipped-{world.rank}.json").write_text(json.dumps([row["skipped"] for row in diary.rows]))
    part = slice(2 * world.rank, 2 * world.rank + 2)
    save_file(sums(world.rank) | aggregated(part), folder / f"sums-{world.rank}.safetensors")
    save_file(s4mim(world), folder / f"s4mim-{world.rank}.safetensors")
    ends = []
    for accident in ({"diary": Diary(stop_at=2)}, {"diary": Diary(), "bad_step": 3}):  # to one of the two
        try:
            run(world, 2, **(accident if world.rank == 1 else {"diary": Diary()}))
        except (Interrupted, Diverged) as end:
            ends.append(end.what)
    (folder / f"{world.rank}.json").write_text(json.dumps(ends))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind."""
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(process, folder)
    return folder


def test_both_processes_have_the_gradient_of_the_whole_batch(folder: Path) -> None:
    """Accumulation, two passes and two processes against one process with all eight images at once."""
    zero, one = (load_file(folder / f"{rank}.safetensors") for rank in range(2))
    alone = run(World(), 8, Diary())
    start = dict(TwoPasses().named_parameters())
    for name, value in alone.items():
        assert torch.equal(zero[name], one[name])
        assert torch.allclose(zero[name], value, atol=1e-6)
        assert not torch.allclose(value, start[name], atol=1e-3)


def test_sums_and_their_gradients(folder: Path) -> None:
    zero, one = (load_file(folder / f"sums-{rank}.safetensors") for rank in range(2))
    assert zero["sum"].tolist() == one["sum"].tolist() == [3, 3]
    # d/dx (x0 + x1)^2 = 6, twice it in each process: the mean halves the sum of both
    assert zero["slope"].tolist() == one["slope"].tolist() == [12, 12]
    assert zero["joined"].tolist() == one["joined"].tolist() == [1, 1, 2, 2]


def test_prototypes_and_aggregation_are_those_of_the_whole_batch(folder: Path) -> None:
    zero, one = (load_file(folder / f"sums-{rank}.safetensors") for rank in range(2))
    alone = aggregated(slice(0, IMAGES))
    for key in ("means", "seen", "loss"):
        assert torch.equal(zero[key], one[key]), key
        assert torch.allclose(zero[key].float(), alone[key].float(), atol=1e-6), key
    assert not torch.allclose(zero["gradient"], one["gradient"], atol=1e-4)
    assert torch.allclose((zero["gradient"] + one["gradient"]) / 2, alone["gradient"], atol=1e-6)


def test_s4mim_keeps_two_processes_in_step(folder: Path) -> None:
    zero, one = (load_file(folder / f"s4mim-{rank}.safetensors") for rank in range(2))
    assert zero.keys() == one.keys()
    assert all(torch.equal(value, one[name]) for name, value in zero.items())
    assert zero["prototypes"].any()
    assert not torch.equal(zero["method.pid.heads.weight"], s4mim(World())["method.pid.heads.weight"])


def test_what_happens_to_one_process_stops_both_at_the_same_step(folder: Path) -> None:
    """A signal: within a step, here where no log line is due. A loss that is not finite: at the next log line."""
    zero, one = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    assert zero == one
    interrupted, diverged = zero
    assert interrupted.startswith("stopped after step 3")
    assert diverged == "the loss or its gradient is not finite at step 4"


def test_a_step_that_is_bad_in_one_process_is_skipped_in_both(folder: Path) -> None:
    zero, one = (load_file(folder / f"skipped-{rank}.safetensors") for rank in range(2))
    alone = run(World(), 8, Diary(), 3, "skip")
    for name, value in alone.items():
        assert torch.equal(zero[name], one[name])
        assert torch.allclose(zero[name], value, atol=1e-6)
        assert value.isfinite().all()
    assert [json.loads((folder / f"skipped-{rank}.json").read_text()) for rank in range(2)] == [[0, 1, 0]] * 2


def test_alone_there_is_nobody_to_ask() -> None:
    world = World()
    assert world.main
    assert not World(rank=1, size=2).main
    assert any_process(True, world)
    assert not any_process(False, world)
    barrier(world)


@pytest.mark.parametrize(("error", "waits"), [(None, True), (Interrupted("all stop"), True), (OSError("alone"), False)])
def test_only_what_all_agreed_on_ends_with_a_barrier(
    error: Exception | None, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peers of a process that fails alone may never come to the barrier."""
    calls: list[str] = []
    monkeypatch.setattr(distributed, "join", lambda device: World(size=2))
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(distributed.dist, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    with pytest.raises(type(error)) if error else nullcontext(), joined("cpu"):
        if error:
            raise error
    assert calls == (["barrier", "destroy_process_group"] if waits else [])


def test_join_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert join("cpu") == World()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error is about a machine without CUDA")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match="no CUDA device") as error:
        join("cuda")
    assert error.value.code == 4
