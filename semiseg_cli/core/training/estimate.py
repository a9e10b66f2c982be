"""What a step costs that is too large to be tried: a small one is taken, and what it costs grows with its pixels.

So do arithmetic, time, and the memory of activations. Attention among all pixels grows faster, and small convolutions
are less efficient than large ones: a figure to decide by, not to plan by.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semiseg_cli.core.machine import free_memory, resident_memory
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.compiled import without_compiler
from semiseg_cli.core.training.measure import PARTS, Laps, flop_counter, of_a_run, stepper
from semiseg_cli.core.training.session import Session

SIDE, IMAGES = 160, 2  # of the small step
LARGE = 8  # times the pixels of the small step: up to here the step itself is tried
FIXED = ("optimiser", "after_step")  # parts of a step that do not depend on pixels
CELL = 8  # pixels a side: most of a network works on maps of stride 4 to 16, whose last row may be a part of one
SLACK = 1.1  # memory over that of the tensors alive: what convolutions work in, and gaps between tensors
SURE = 0.9  # of those tensors: what is needed in any case, should some of them not grow with the pixels


def is_large(train: TrainConfig) -> bool:
    """Whether a step is to be estimated on a CPU."""
    return train.batch * train.crop**2 > LARGE * IMAGES * SIDE**2


def estimate(session: Session, advance: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Cost of a training step on a CPU, as `measure` returns it, from two steps of IMAGES images of about SIDE pixels.

    The networks are not as before afterwards. advance: called after each of the two steps.
    Besides: `estimated_from`, its images and crop; `least_memory_bytes`, without which a step cannot be;
    `memory_bytes_there`, what this process may have; and `micro_batch`, the largest that fits into it, or None.
    """
    train, plan = session.config.train, session.plan
    side = min(SIDE + train.crop % 16, train.crop)
    small = replace(plan, start=0, steps=2, micro=min(IMAGES, plan.micro), batch=min(IMAGES, plan.micro), crop=side)
    step, before = stepper(session, small, session.batches(small, few=True), advance), resident_memory()
    room = before + free_memory()
    learned = [parameter for parameter in session.train.parameters() if parameter.requires_grad]
    most = 0

    def lap(part: str) -> None:
        nonlocal most
        if part == "forward":  # all activations are there, and the gradients of an earlier part
            most = max(most, alive.now - _bytes(parameter.grad for parameter in learned))

    with flop_counter() as counter, Alive() as alive:
        step(lap)
    laps = Laps(session.world.device)
    laps.start()
    step(laps)
    scale = plan.micro / small.micro * (-(-train.crop // CELL) / -(-side // CELL)) ** 2
    fixed = sum(laps.steps[0][part] for part in FIXED)
    growing = sum(laps.steps[0][part] for part in PARTS) - fixed
    states = [value for values in session.optimizer.state.values() for value in values.values()]
    held = before + _bytes(states)
    base = held + _bytes(learned)  # a gradient is as large as its parameter; the last come when activations are gone
    each = most * scale / plan.micro
    counts = (count for count in range(1, plan.batch + 1) if plan.batch % count == 0)
    fitting = [count for count in counts if base + count * SLACK * each <= room]
    cost = {
        "step_ms": plan.accumulation * scale * growing + fixed,
        "gflop_per_step": plan.accumulation * scale * counter.get_total_flops() / 1e9,
        "peak_memory_bytes": round(base + plan.micro * SLACK * each),
    }
    return of_a_run(session, cost) | {
        "estimated_from": {"images": small.micro, "crop": side},
        "least_memory_bytes": round(held + plan.micro * SURE * each),
        "memory_bytes_there": room,
        "micro_batch": max(fitting, default=None),
    }


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors made inside that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        without_compiler(self)
        self.now = 0
        self.known = set[int]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size
