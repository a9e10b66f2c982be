"""What a run sees is a function of (seed, step, slot): not of workers, accumulation, processes or a resume."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.data import decode
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import HostBatch, Plan, begin_worker, close, loader, workers_for
from semiseg_cli.core.data.order import pick
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import BadFile
from semiseg_cli.core.partitions.splits import resolve_partition

forked = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows who sent a signal")

Lists = tuple[Sequence[Record], Sequence[Record]]  # labeled, unlabeled

PLAN = Plan(
    seed=3, start=0, steps=4, batch=4, micro=4, crop=32, scale=(0.5, 2.0),
    inputs=frozenset({"unlabeled", "mix", "second"}),
)


@pytest.fixture
def lists(shapes_root: Path) -> Lists:
    partition = resolve_partition(load_dataset(shapes_root, "shapes"), "")
    return partition.labeled, partition.unlabeled


def steps(plan: Plan, lists: Lists, workers: int = 0, cache: int = 0) -> list[HostBatch]:
    """The micro-batches of every step, joined."""
    items = list(loader(plan, *lists, workers=workers, cache_bytes=cache))
    parts = plan.accumulation
    return [joined(items[i : i + parts]) for i in range(0, len(items), parts)]


def joined(items: Sequence[HostBatch]) -> HostBatch:
    return {key: torch.cat([item[key] for item in items]) for key in items[0]}


def same(a: Sequence[HostBatch], b: Sequence[HostBatch]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x) for x, y in zip(a, b, strict=True)
    )


def test_shapes_and_types(lists: Lists) -> None:
    found = steps(PLAN, lists)
    assert len(found) == 4
    for name in ("labeled", "unlabeled", "partner"):
        assert found[0][f"{name}_image"].shape == (4, 32, 32, 3)
        assert found[0][f"{name}_image"].dtype == torch.uint8
        assert found[0][f"{name}_valid"].shape == (4, 32, 32)
    assert found[0]["labeled_mask"].shape == (4, 32, 32)
    assert [key for key in found[0] if "mask" in key] == ["labeled_mask"]


@pytest.mark.parametrize("cache", [0, 2**24])
def test_workers_do_not_matter(lists: Lists, cache: int) -> None:
    assert same(steps(PLAN, lists), steps(PLAN, lists, workers=2, cache=cache))


def test_accumulation_does_not_matter(lists: Lists) -> None:
    assert same(steps(PLAN, lists), steps(replace(PLAN, micro=2), lists))


@pytest.mark.parametrize("micro", [1, 2])
def test_processes_do_not_matter(lists: Lists, micro: int) -> None:
    plans = [replace(PLAN, micro=micro, rank=rank, world=2) for rank in range(2)]
    shares = [steps(plan, lists) for plan in plans]
    slots = [[int(s) for part in range(plan.accumulation) for s in plan.slots(part)] for plan in plans]
    assert sorted(slots[0] + slots[1]) == [0, 1, 2, 3]
    order = torch.tensor(slots[0] + slots[1]).argsort()
    together = [
        {key: value[order] for key, value in joined([a, b]).items()} for a, b in zip(*shares, strict=True)
    ]
    assert same(steps(PLAN, lists), together)


def test_a_resumed_run_sees_what_it_would_have_seen(lists: Lists) -> None:
    assert same(steps(PLAN, lists)[2:], steps(replace(PLAN, start=2), lists))


def test_another_seed_sees_something_else(lists: Lists) -> None:
    assert not same(steps(PLAN, lists), steps(replace(PLAN, seed=4), lists))


@given(st.integers(0, 100), st.integers(1, 12), st.integers(0, 5))
def test_every_image_comes_once_a_pass(seed: int, count: int, epoch: int) -> None:
    seen = [pick(seed, "unlabeled", count, position) for position in range(epoch * count, (epoch + 1) * count)]
    assert sorted(seen) == list(range(count))


def test_passes_and_streams_have_orders_of_their_own() -> None:
    orders = {
        tuple(pick(0, stream, 20, epoch * 20 + i) for i in range(20))
        for stream in ("labeled", "unlabeled")
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_one_pass_over_the_unlabeled_list(lists: Lists) -> None:
    seen = torch.cat([batch["unlabeled_index"] for batch in steps(replace(PLAN, steps=2), lists)])
    assert sorted(seen.tolist()) == list(range(8))


def test_second_is_the_same_image_in_another_crop(lists: Lists) -> None:
    for batch in steps(PLAN, lists):
        assert torch.equal(batch["partner_index"], batch["unlabeled_index"])
        assert not (batch["partner_image"] == batch["unlabeled_image"]).flatten(1).all(1).any()


def test_the_labeled_neighbour_comes_with_its_mask_in_a_crop_of_its_own(lists: Lists) -> None:
    pairs = (5, 0, 1, 2, 3, 4, 5, 3)
    plan = replace(PLAN, inputs=frozenset({"unlabeled", "paired"}), pairs=pairs)
    found = steps(plan, lists)
    for batch, alone in zip(found, steps(PLAN, lists), strict=True):
        assert batch["paired_index"].tolist() == [pairs[i] for i in batch["unlabeled_index"].tolist()]
        assert batch["paired_mask"].shape == (4, 32, 32)
        assert all(torch.equal(batch[key], alone[key]) for key in batch if not key.startswith("paired"))
        for image, index in zip(batch["paired_image"], batch["paired_index"].tolist(), strict=True):
            twins = batch["labeled_image"][batch["labeled_index"] == index]
            assert not (twins == image).flatten(1).all(1).any()
    assert same(found, steps(replace(plan, micro=2), lists, workers=1))


def test_no_mask_of_an_unlabeled_image_is_opened(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled, unlabeled = lists
    assert all(record.mask is None for record in unlabeled)
    opened: set[Path] = set()
    real = decode.decode_mask
    monkeypatch.setattr(decode, "decode_mask", lambda path, size=None: (opened.add(path), real(path, size))[1])
    steps(PLAN, lists)
    assert opened == {record.mask for record in labeled}


def test_only_what_a_method_asks_for_is_read(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled, _ = lists
    opened: set[Path] = set()
    real = decode.decode_image
    monkeypatch.setattr(decode, "decode_image", lambda path, *rest: (opened.add(path), real(path, *rest))[1])
    found = steps(replace(PLAN, inputs=frozenset()), lists)
    assert not [key for key in found[0] if not key.startswith("labeled")]
    assert opened == {record.image for record in labeled}
    assert "partner_image" not in steps(replace(PLAN, inputs=frozenset({"unlabeled"}), steps=1), lists)[0]


def test_workers_are_for_large_images() -> None:
    assert workers_for(3, 1, 1) == 3
    assert workers_for(0, 100, 10**6) == 0
    assert workers_for(-1, 16, 96 * 96 * 3) == workers_for(-1, 8, 96 * 96 * 3, cuda=True) == 0
    assert 0 <= workers_for(-1, 32, 801 * 801 * 3) <= 8


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_an_error_as_it_was_raised_and_the_end_of_all_workers(
    lists: Lists, tmp_path: Path, workers: int
) -> None:
    labeled, unlabeled = lists
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(BadFile) as caught:
        list(loader(PLAN, [replace(record, image=bad) for record in labeled], unlabeled, workers=workers))
    assert caught.value.what == f"cannot read {bad}"
    assert "damaged" in caught.value.why
    assert multiprocessing.active_children() == []  # though the error is still held


def test_workers_end_when_the_iterator_is_closed(lists: Lists) -> None:
    batches = loader(replace(PLAN, steps=1000), *lists, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    close(batches)
    assert multiprocessing.active_children() == []
    with pytest.raises(StopIteration):
        next(batches)


def _work(ready: int) -> None:
    begin_worker(0)
    os.write(ready, b"x")
    time.sleep(60)


@forked
def test_a_worker_ends_when_its_parent_says_so_and_at_nobody_elses_word() -> None:
    """What a terminal or a scheduler sends to all processes is the training process's to answer."""
    reader, writer = os.pipe()
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(writer,), daemon=True)
    worker.start()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    try:
        for number in ("TERM", "INT"):
            subprocess.run(["sh", "-c", f"kill -{number} {worker.pid}"], check=True)
        worker.join(0.5)
        assert worker.is_alive()
        worker.terminate()
        worker.join(20)
        assert worker.exitcode == 0
    finally:
        worker.kill()
        os.close(reader)


@forked
def test_a_worker_ends_with_its_parent() -> None:
    reader, writer = os.pipe()

    def parent() -> None:
        multiprocessing.get_context("fork").Process(target=_work, args=(writer,)).start()
        time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=parent)
    process.start()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    began = time.monotonic()
    assert os.read(reader, 1) == b""  # everybody who could write has ended
    os.close(reader)
    assert time.monotonic() - began < 30
