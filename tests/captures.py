"""For tests: steps of every method and plug-in, operator by operator or captured, and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from steps import fed
from tape import Tapes
from torch import Tensor

from semiseg_cli.core.data.loader import Plan
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.settings import TrainConfig, hints
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.finite import Guard
from semiseg_cli.core.training.graph import Captured
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.pool import Placed, Pool
from semiseg_cli.core.training.recorder import CudaGraphs
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.training.update import Update
from semiseg_cli.core.types import Clock

STEPS, COUNT, SIDE = 12, 2, 33
CONFIG = TrainConfig(steps=STEPS, batch=COUNT, lr=0.02, head_lr_multiplier=2.0)

# Labels alone for 4 steps, the last of them captured. Then 3 real ones, 1 captured, and replayed ones: within ramps to
# step 10, after them, and with the decay of teachers at its end from step 8.
TIMES = {"warmup": 0.33, "ramp": 0.5, "alpha": 0.5}
AWAKE = {"tau": 0.0, "phi": 0.3, "region_tau": 0.1, "patch": 8, "match_after": 2, "embedding": 16}

Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]


def settings_of(cls: type) -> dict[str, Any]:
    unread = {"alpha"} if "ema_teacher" in hints(cls) else set[str]()
    return {name: value for name, value in (TIMES | AWAKE).items() if name in hints(cls).keys() - unread}


@dataclass(frozen=True)
class Case:
    """A method, or a plug-in on the first that it can be added to, and how its steps are taken."""

    method: str
    plugin: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    parts: int = 1
    amp: bool = False
    pooled: bool = False  # crops are cut in the step

    @property
    def how(self) -> tuple[int, bool]:
        """What `Run` takes of it."""
        return self.parts, self.pooled

    def __str__(self) -> str:
        turned = [f"{name}={value}" for name, value in {**self.settings, **self.train}.items()]
        how = ["parts"] * (self.parts > 1) + ["pooled"] * self.pooled
        return "-".join([self.method, *filter(None, [self.plugin]), *turned, *how])


def host_of(plugin: str) -> str:
    acts_on = load_plugin(plugin).acts_on
    return next(name for name in METHODS if name != "guidedmix" and acts_on in load_method(name).offers)


CASES = [
    *(Case(name) for name in METHODS),
    *(Case(host_of(plugin), plugin) for plugin in PLUGINS),
    Case("ipixmatch", settings={"ema_teacher": True, "alpha": 0.5, "exact_bn": True}, amp=True),
    Case("stpg", parts=2),
    Case("fixmatch", parts=2, pooled=True),
    Case("supervised", settings={"strong": True}, train={"optimizer": "adamw", "grad_clip": 0.1}, parts=2),
]


def built(case: Case, train_module: Make) -> Train:
    train = train_module(case.method, **settings_of(load_method(case.method).Settings) | case.settings)
    train.amp = case.amp
    if case.plugin:
        cls = load_plugin(case.plugin)
        plugin = cls(cls.Settings(**settings_of(cls.Settings)), train.method.build)
        train.method = Extended(train.method, {case.plugin: plugin})
    return train


class Photos:
    """Images in memory as `Pixels` has them: those of a list in some micro-batches."""

    def __init__(self, hosts: list[dict[str, Tensor]], name: str) -> None:
        self.images, self.masks = (
            [x.numpy() for host in hosts for x in host.get(f"{name}_{kind}", ())] for kind in ("image", "mask")
        )

    def __len__(self) -> int:
        return len(self.images)

    def shape(self, index: int) -> tuple[int, int]:
        return self.images[index].shape[:2]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index], self.masks[index] if self.masks else None


class Run:
    """Steps of a method, operator by operator or captured; every step's row of the log is kept.

    pooled: images lie in a pool, and come into steps turned, scaled and flipped.
    """

    def __init__(
        self, train: Train, batches: Batches, parts: int = 1, pooled: bool = False, **changes: Any
    ) -> None:
        self.train, self.batches, self.parts, device = train, batches, parts, train.mean.device
        self.config = TrainConfig(**(vars(CONFIG) | changes))
        plan = Plan(
            seed=0, start=0, steps=STEPS, batch=COUNT * parts, micro=COUNT, crop=SIDE, scale=(1.0, 1.0),
            inputs=type(train.method).inputs(train.method.settings),
        )  # fmt: skip
        if pooled:
            plan = replace(plan, scale=(0.5, 2.0), rotation=20.0)
        if pooled and train.pool is None:
            photos: Any = [batches(number, count=3, side=SIDE + 7) for number in range(2)]
            train.pool = Pool(Photos(photos, "labeled"), Photos(photos, "unlabeled"), device)  # type: ignore[arg-type]
        optimizer = build_optimizer(train.method.groups(), self.config)
        world = World(device=device)
        self.guard = Guard(train, optimizer, world, skip=self.config.on_nonfinite == "skip")
        self.update = Update(train, optimizer, plan, self.config.grad_clip, Meter(), world, self.guard)
        self.tapes, self.notes, self.rows = Tapes(self.known), list[str](), list[dict[str, Any]]()
        recorder = CudaGraphs(device) if torch.cuda.is_available() and device.type == "cuda" else self.tapes
        self.captured = Captured(self.update, recorder, self.notes.append)

    def known(self) -> Iterator[Tensor]:
        yield from self.train.parameters()
        yield from self.train.buffers()
        if pool := self.train.pool:
            yield from (pool.rgb_P3, pool.label_P)
        yield from (*self.update.meter.sums.values(), *self.update.meter.skipped.values())
        yield from (self.guard.bad, self.guard.tally, *self.guard.held)
        for group in self.update.optimizer.param_groups:
            yield group["lr"]
        for state in self.update.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        yield from (stage.tables.buffer for stage in self.captured.stages.values() if stage.tables.buffer is not None)

    def hosts(self, first: int = 0) -> Iterator[dict[str, Tensor]]:
        pool = self.train.pool
        placed = Placed(self.update.plan, pool) if pool else None
        for number in range(first * self.parts, STEPS * self.parts):
            host: Any = placed[number] if placed else fed(self.train, self.batches(number, count=COUNT, side=SIDE))
            yield {name: x.pin_memory() for name, x in host.items()} if torch.cuda.is_available() else host

    def go(self, take: Callable[..., None], steps: range = range(STEPS)) -> Run:
        hosts = self.hosts(steps.start)
        for step in steps:
            set_learning_rates(self.update.optimizer, step, self.config)
            take(hosts, Clock(step, STEPS))
            self.rows.append(self.update.meter.means())
            self.update.meter.reset()
        return self

    def state(self) -> dict[str, Tensor]:
        return dict(self.train.state_dict())
