"""From lists of records to host micro-batches: which image goes to which slot of which step, decoded and warped.

Images stay uint8 until they are on the device. Every choice is a function of (seed, step, slot), so that the number of
workers, processes and micro-batches does not change what a run sees, and a resumed run sees what it would have seen.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from semiseg_cli.core.data.cores import cores
from semiseg_cli.core.data.decode import Pixels
from semiseg_cli.core.data.order import FILES, STREAMS, Blocks, pick
from semiseg_cli.core.data.shards import expect, is_far
from semiseg_cli.core.data.spec import Dataset as Prepared
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.data.warp import Warp, apply_warp, draw_warp
from semiseg_cli.core.data.workers import made
from semiseg_cli.core.errors import SemisegError
from semiseg_cli.core.ops.draws import Slots, neighbours
from semiseg_cli.core.stopping import asking

# labeled|unlabeled|partner|labeled_partner|paired -> _image (b,H,W,3), _valid, _mask (b,H,W) uint8, _index (b,); in
# place of the first three, for crops that are cut on the device, _place (b,3) int64 and _inverse (b,2,3) float64
HostBatch = dict[str, Tensor]
MASKED = ("labeled", "labeled_partner", "paired")

@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every process needs to pick its images. `micro` is per device; batch = micro x accumulation x world.

    inputs: what the method takes beside labeled images: "unlabeled"; "paired", the labeled image most like each; "mix",
    CutMix partners; and "second", these being another weak draw of the image itself.
    """

    seed: int
    start: int  # first step
    steps: int  # one past the last step
    batch: int
    micro: int
    crop: int
    scale: tuple[float, float]
    rotation: float = 0.0
    inputs: frozenset[str] = frozenset()
    pairs: tuple[int, ...] = ()  # for inputs "paired": the place of every unlabeled image's labeled one
    blocks: Blocks = FILES  # how unlabeled images lie in shards
    rank: int = 0
    world: int = 1

    @property
    def accumulation(self) -> int:
        return self.batch // (self.micro * self.world)

    def slots(self, part: int) -> Slots:
        """Global slots of this process's micro-batch number `part` within a step."""
        first = (part * self.world + self.rank) * self.micro
        return np.arange(first, first + self.micro)

    @property
    def step_slots(self) -> Slots:
        """Those of all its micro-batches."""
        return np.concatenate([self.slots(part) for part in range(self.accumulation)])

    @property
    def partners(self) -> Literal["own", "loaded", "second"]:
        """Where CutMix partners come from: the micro-batch, or the loader, as neighbours or as second draws."""
        if "second" in self.inputs:
            return "second"
        slots = np.arange(self.batch)
        apart = (neighbours(slots, self.batch) // self.micro != slots // self.micro).any()
        return "loaded" if "mix" in self.inputs and apart else "own"


def blocks_of(dataset: Prepared, unlabeled: Sequence[Record]) -> Blocks:
    """How the unlabeled images of a run lie in the dataset's shards. Those that have a mask are files, and first."""
    if not dataset.block:
        return FILES
    records = Records.of(unlabeled)
    files = len(records.spans.meet(records.table.masked))
    size = max(1, round(dataset.block * (len(records) - files) / len(dataset.pool)))  # of a part of the pool fewer
    return Blocks(size, files % size)


def picked(plan: Plan, stream: str, count: int, position: int) -> int:
    """`pick` as the plan has it."""
    return pick(plan.seed, stream, count, position, plan.blocks if stream == "unlabeled" else FILES)


def images_of(plan: Plan, labeled: int, unlabeled: int, step: int) -> tuple[list[int], list[int]]:
    """Which of so many labeled and unlabeled images all processes together have in a step, without CutMix partners."""
    first, counts = step * plan.batch, {"labeled": labeled, "unlabeled": unlabeled}
    slots = range(first, first + plan.batch)
    chosen = [[picked(plan, name, n, slot) for slot in slots] for name, n in counts.items() if n]
    return chosen[0], chosen[1] if "unlabeled" in plan.inputs else []


class MicroBatches(Dataset[HostBatch | SemisegError]):
    """Item i is micro-batch i % accumulation of step i // accumulation, or the error met on the way to it.

    The error travels as a value because a DataLoader would rebuild it from its text alone.
    """

    def __init__(self, plan: Plan, labeled: Pixels, unlabeled: Pixels | None) -> None:
        self.plan, self.labeled, self.unlabeled = plan, labeled, unlabeled
        self.far = bool(plan.blocks.size and unlabeled and is_far(unlabeled.records[-1].image))

    def __getitem__(self, item: int) -> HostBatch | SemisegError:
        try:
            return self._batch(item)
        except SemisegError as error:
            return error

    def _batch(self, item: int) -> HostBatch:
        plan, (step, part) = self.plan, divmod(item, self.plan.accumulation)
        slots = plan.slots(part)
        others = neighbours(slots, plan.batch)
        batch = self._crops("labeled", self.labeled, self._picked("labeled", self.labeled, step, slots), step, slots)
        if self.unlabeled is None:
            if plan.partners == "loaded":
                chosen = self._picked("labeled", self.labeled, step, others)
                batch |= self._crops("labeled", self.labeled, chosen, step, others, name="labeled_partner")
            return batch
        chosen = self._picked("unlabeled", self.unlabeled, step, slots)
        if self.far:  # these at once, and those as many ahead as a shard has: there some head goes on to the next one
            ahead = self._picked("unlabeled", self.unlabeled, step, slots + plan.blocks.size)
            for place in (*chosen, *ahead):
                expect(self.unlabeled.records[place].image)
        batch |= self._crops("unlabeled", self.unlabeled, chosen, step, slots)
        if plan.partners == "second":
            batch |= self._crops("second", self.unlabeled, chosen, step, slots, name="partner")
        elif plan.partners == "loaded":
            theirs = self._picked("unlabeled", self.unlabeled, step, others)
            batch |= self._crops("unlabeled", self.unlabeled, theirs, step, others, name="partner")
        if "paired" in plan.inputs:
            batch |= self._crops("paired", self.labeled, [plan.pairs[i] for i in chosen], step, slots)
        return batch

    def _picked(self, stream: str, pixels: Pixels, step: int, slots: Slots) -> list[int]:
        """Which image of a list is in each slot."""
        return [picked(self.plan, stream, len(pixels), step * self.plan.batch + int(slot)) for slot in slots]

    def _crops(
        self, stream: str, pixels: Pixels, chosen: Sequence[int], step: int, slots: Slots, name: str = ""
    ) -> HostBatch:
        """A weak view of the chosen image of every slot, under `name`; `stream` decides the random warp."""
        plan, crops, name = self.plan, [], name or stream
        for slot, index in zip(slots, chosen, strict=True):
            rng = np.random.default_rng([plan.seed, STREAMS[stream], step, int(slot), 1])
            warp = draw_warp(rng, *pixels.shape(index), plan.crop, plan.scale, plan.rotation)
            crops.append(self.crop(pixels, index, warp))
        batch = {f"{name}_{key}": torch.from_numpy(np.stack([crop[key] for crop in crops])) for key in crops[0]}
        return batch | {f"{name}_index": torch.tensor(chosen)}

    def crop(self, pixels: Pixels, index: int, warp: Warp) -> dict[str, np.ndarray[Any, Any]]:
        """What a step is given of an image: its crop, decoded and warped here."""
        image, mask = pixels[index]
        out, labels, valid = apply_warp(warp, image, mask, self.plan.crop)
        return {"image": out, "valid": valid} | ({} if labels is None else {"mask": labels})


def workers_for(requested: int, images: int, bytes_each: int, *, cuda: bool = False) -> int:
    """Loader processes: as asked for, or none for little work, else up to 8 and one core left free.

    Little is what a CPU that trains as well would rather do itself, or what costs a GPU's host less than the exchange.
    """
    if requested >= 0:
        return requested
    least = 2**20 if cuda else 64 * 2**20
    return 0 if images * bytes_each < least else max(0, min(8, cores() - 1))


def loader(
    plan: Plan,
    labeled: Sequence[Record],
    unlabeled: Sequence[Record],
    *,
    workers: int = 0,
    cache_bytes: int = 0,
    long_side: int = 0,
    pin: bool = False,
) -> Generator[HostBatch, None, None]:
    """The micro-batches of this process, decoded and warped, as `serve` gives them.

    long_side: images are reduced to it before anything else, see `Pixels`.
    """
    others = Pixels(unlabeled, cache_bytes * 3 // 4, long_side) if "unlabeled" in plan.inputs else None
    source = MicroBatches(plan, Pixels(labeled, cache_bytes // 4 if others else cache_bytes, long_side), others)
    return serve(source, workers=workers, pin=pin)


def serve(source: MicroBatches, *, workers: int = 0, pin: bool = False) -> Generator[HostBatch, None, None]:
    """Micro-batches from `plan.start` to `plan.steps`. Raises what a loader process met.

    Loader processes end with the iterator: after its last item, at an error, and when it is closed.
    """
    plan = source.plan
    order = range(plan.start * plan.accumulation, plan.steps * plan.accumulation)
    return made(source, order, workers, begin_worker, pin=pin, ahead=4)


def close(batches: Iterator[HostBatch]) -> None:
    """End the processes of a `loader` before its last item."""
    if isinstance(batches, Generator):
        batches.close()


def begin_worker(worker: int) -> None:
    """A worker computes on one thread, and leaves signals to the training process, which saves before it ends.

    It ends when that process is gone or, by SIGTERM, has it end: multiprocessing does so at exit, and waits.
    """
    cv2.setNumThreads(0)
    for number in asking():
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # so that the thread gets it, and who sent it
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    else:  # macOS, Windows
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _follow(parent: int) -> None:
    """End this process with its parent, or when the parent says so."""
    while os.getppid() == parent:
        found = signal.sigtimedwait([signal.SIGTERM], 1)
        if found and found.si_pid == parent:
            break
    os._exit(0)  # in good order: torch makes an error of a worker that is killed or exits with anything else
