"""One run in memory: what `setup.open_session` builds, and what a deployed checkpoint says of itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch

from semiseg_cli import __version__
from semiseg_cli.core.data.decode import Pixels
from semiseg_cli.core.data.loader import HostBatch, Plan, images_of, loader, serve, workers_for
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import counted
from semiseg_cli.core.inference.evaluation import Evaluation, evaluate
from semiseg_cli.core.inference.metrics import Asked
from semiseg_cli.core.inference.options import resolve_window
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.methods.base import Method
from semiseg_cli.core.networks import Encoder, Net
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.compiled import uncompiled
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.pool import Placed, Pool
from semiseg_cli.core.training.pooled import Statistics, having, of_whole_images, spread
from semiseg_cli.core.training.step import Train


@dataclass(frozen=True)
class Session:
    """One run in memory. `train` is the module whose state is saved."""

    config: Config
    dataset: Dataset
    partition: Partition
    world: World
    train: Train
    optimizer: torch.optim.Optimizer
    plan: Plan
    meter: Meter = field(default_factory=Meter)
    whole: dict[int, list[Statistics]] = field(default_factory=dict)  # whole images', of the step they were found at

    @property
    def method(self) -> Method[Any]:
        return self.train.method

    @property
    def epoch_images(self) -> int:
        """Images of one epoch: the unlabeled list, or the labeled one where a method takes no other."""
        return len(self.partition.unlabeled if "unlabeled" in self.plan.inputs else self.partition.labeled)

    @property
    def images_per_label(self) -> int:
        """Images that come into a step per labeled image."""
        return 2 if "unlabeled" in self.plan.inputs else 1

    @property
    def workers(self) -> int:
        images = self.plan.micro * self.images_per_label
        cuda = self.world.device.type == "cuda"
        return workers_for(self.config.train.workers, images, self.plan.crop**2 * 3, cuda=cuda)

    @cached_property
    def device_name(self) -> str:
        if self.world.device.type == "cuda":
            return torch.cuda.get_device_name(self.world.device)
        return f"CPU, {counted(torch.get_num_threads(), 'thread')}, {platform.processor() or platform.machine()}"

    @property
    def title(self) -> str:
        config, plan = self.config, self.plan
        unlabeled = f" + {len(self.partition.unlabeled)} unlabeled" if "unlabeled" in plan.inputs else ""
        parts = f"{plan.batch} = {self.world.size} x {plan.accumulation} x {plan.micro}"
        return (
            f"{config.title} on {self.dataset.name}: {self.partition.name}{unlabeled}; "
            f"{config.model.backbone}, crop {plan.crop}, batch {parts if plan.batch != plan.micro else plan.batch}, "
            f"{self.device_name}"
        )

    def images_of(self, step: int) -> str:
        """The files of the batch of a step, all processes', CutMix partners of other slots left out."""
        lists = self.partition.labeled, self.partition.unlabeled
        chosen = images_of(self.plan, len(lists[0]), len(lists[1]), step)
        files = [", ".join(str(all[i].image) for i in places) for all, places in zip(lists, chosen, strict=True)]
        return "; ".join(f"{name}: {some}" for name, some in zip(("labeled", "unlabeled"), files, strict=True) if some)

    def batches(self, plan: Plan, few: bool = False) -> Iterator[HostBatch]:
        """Host micro-batches of this process from `plan.start` on. few: decoded as they are taken, and kept nowhere."""
        pin, train = self.world.device.type == "cuda", self.config.train
        if self.config.data.cache == "device" and not few:
            return serve(Placed(plan, self.pool()), pin=pin)
        return loader(
            plan,
            self.partition.labeled,
            self.partition.unlabeled,
            workers=0 if few else self.workers,
            cache_bytes=0 if few else train.cache_mb * 2**20,
            long_side=self.dataset.long_side,
            pin=pin,
        )

    def pool(self, advance: Callable[[], object] = lambda: None) -> Pool:
        """Where all images of the run lie on the device, decoded when it is first asked for. Raises as `Pool` does."""
        if self.train.pool is None:
            lists, inputs = self.partition, self.plan.inputs
            others = Pixels(lists.unlabeled, 0, self.dataset.long_side) if "unlabeled" in inputs else None
            labeled = Pixels(lists.labeled, 0, self.dataset.long_side)
            self.train.pool = Pool(labeled, others, self.world.device, advance)
        return self.train.pool

    @property
    def predictor(self) -> Predictor:
        """The deployed network as it is evaluated."""
        net, config = self.method.deployed(), self.config
        return Predictor.configured(
            net, config.eval, self.dataset.window, config.train.amp, self.world.device,
            long_side=self.dataset.long_side, mean=net.encoder.mean, std=net.encoder.std,
        )  # fmt: skip

    @contextmanager
    def deployed(self, step: int) -> Iterator[Net]:
        """The network that is measured and saved; within it, it has the statistics of `train.pooled_images`.

        step: that it stands at. What is evaluated and saved after the same one is shown the images once.
        """
        lists = [self.partition.labeled, *([self.partition.unlabeled] if "unlabeled" in self.plan.inputs else [])]
        with uncompiled(self.config.train.compile):
            if step not in self.whole:
                self.whole.clear()
                self.whole[step] = of_whole_images(self.predictor, spread(lists, self.config.train.pooled_images))
            net = self.method.deployed()
            with having(net, self.whole[step]):
                yield net

    def evaluate(
        self, progress: Callable[[int], object] | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """`deployed`, within it, on the validation images as `semiseg eval` measures it. Arguments as in `evaluate`."""
        config, dataset = self.config, self.dataset
        with uncompiled(config.train.compile):
            return evaluate(
                self.predictor, dataset, dataset.val, asked=Asked(boundary=config.train.best_by == "boundary"),
                workers=self.workers, progress=progress, stopping=stopping,
            )  # fmt: skip


def deployed_meta(
    session: Session, flat: dict[str, Any], *, step: int, miou: float | None, best: bool
) -> dict[str, Any]:
    """What a deployed checkpoint says of itself: enough to evaluate, predict and cite without the run."""
    partition = session.partition
    unlabeled = len(partition.unlabeled) if "unlabeled" in session.plan.inputs else 0
    encoder = session.method.deployed().encoder
    said = network_meta(session.config, session.dataset, partition, encoder, flat, unlabeled=unlabeled)
    return said | {"step": step, "miou": miou, "best": best}


def network_meta(
    config: Config, dataset: Dataset, partition: Partition, encoder: Encoder, flat: dict[str, Any], *, unlabeled: int
) -> dict[str, Any]:
    """What of that does not change while a run goes on. unlabeled: how many images without masks it learns from."""
    return {
        "version": __version__,
        "model": {
            "backbone": config.model.backbone,
            "decoder": config.model.decoder,
            "output_stride": config.model.output_stride,
            "upsampling": config.model.upsampling,
            "classes": len(dataset.classes),
        },
        "data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "classes": list(dataset.classes),
            "palette": [list(colour) for colour in dataset.palette],
            "ignore": dataset.ignore,
            "window": resolve_window(config.eval.window, dataset.window),
            "long_side": dataset.long_side,
            "levels": list(dataset.levels),
            "licence": dataset.licence,
        },
        "partition": {
            "name": partition.name,
            "fingerprint": partition.fingerprint,
            "protocol": partition.protocol,
            "labeled": len(partition.labeled),
            "unlabeled": unlabeled,
        },
        "encoder": asdict(encoder.origin),
        "normalise": {"mean": list(encoder.mean), "std": list(encoder.std)},
        "method": config.title,
        "config": flat,
    }
