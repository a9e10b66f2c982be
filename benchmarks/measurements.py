"""How each kind of part is measured: the tests, the device's peak, a step of ours or the public code's, a training."""

from __future__ import annotations

import argparse
import gc
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import suite
from benchmarks.parts import Found, Part
from benchmarks.published import published_step
from benchmarks.rows import BASE, COMPARED, LEAD, STEPS, TINY, TINY_PUBLISHED, TRAININGS, Published, Row, Training
from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.config.presets import choose, load_preset, over_preset
from semiseg_cli.core.data.index import default_name, load_dataset
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.training.distributed import World, join
from semiseg_cli.core.training.measure import cost_of, measure, step_times
from semiseg_cli.stages.bench import make_photos, with_any_pairs
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import open_config, train

HELD = 2  # micro-batches that the steps take in turns
PRODUCTS, SIDES = 10, (4096, 8192)  # how many products of square matrices, of which sides, make the peak
ORIGIN = "benchmarks/rows.py"


def all_parts(options: argparse.Namespace, folder: Path) -> list[Part]:
    """Everything that was asked for, most important first. folder: for photos, reports and runs."""
    lab = Lab(options, folder)
    steps = [*LEAD, *(COMPARED if options.unimatch else ()), *STEPS]
    return [
        Part("tests", "gpu tests", 80, partial(suite.run, folder, tiny=options.tiny)),
        Part("peak", "bf16 peak", 5, lab.measure_peak),
        *(Part("step", row.name, row.seconds, partial(lab.step, row)) for row in steps),
        *(Part("training", row.name, row.seconds, partial(lab.train, row)) for row in TRAININGS if options.data),
    ]


@dataclass
class Lab:
    """What the parts share: the device, the photos that the steps take, and the peak once it is known."""

    options: argparse.Namespace
    folder: Path
    peak_tflops: float | None = None
    world: World = field(init=False)
    photos: Dataset = field(init=False)

    def __post_init__(self) -> None:
        self.world, self.photos = join(self.options.device), make_photos(self.folder)

    def measure_peak(self, _limit: float) -> Found:
        """TFLOP/s of products of large bfloat16 matrices of normal numbers: what no training surpasses."""
        rates = {side: self._rate(side) for side in ((64, 128) if self.options.tiny else SIDES)}
        self.peak_tflops = max(rates.values())
        return {"said": f"{self.peak_tflops:.1f} TFLOP/s", "tflops": self.peak_tflops, "by_side": rates}

    def _rate(self, side: int) -> float:
        a, b, c = (torch.randn(side, side, device=self.world.device).bfloat16() for _ in range(3))
        product = partial(torch.mm, a, b, out=c)
        step_times(product, PRODUCTS, self.world.device)
        return 2 * side**3 / median(step_times(product, PRODUCTS, self.world.device)) / 1e9

    def step(self, row: Row | Published, _limit: float) -> Found:
        gc.collect()  # the networks of the part before
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        found = self._ours(row) if isinstance(row, Row) else self._published(row)
        tflops = found["gflop_per_step"] / found["step_ms"]
        return found | {"tflops": tflops, "share_of_peak": self.peak_tflops and tflops / self.peak_tflops}

    def _ours(self, row: Row) -> Found:
        settings = BASE | row.settings | (TINY if self.options.tiny else {})
        config = with_any_pairs(resolve([(ORIGIN, settings)]).config, self.photos)
        session = open_config(config, self.folder, self.world, Silent())
        held, notes = list(islice(session.batches(session.plan), HELD)), list[str]()
        found = measure(session, self.options.steps, parts=True, batches=cycle(held), note=notes.append)
        return found | {"settings": settings, "notes": notes}

    def _published(self, row: Published) -> Found:
        row = replace(row, **TINY_PUBLISHED) if self.options.tiny else row
        how: dict[str, Any] = {"backbone": row.backbone, "batch": row.batch, "crop": row.crop, "bf16": row.bf16}
        step = published_step(self.options.unimatch, device=self.world.device, **how)
        cost = cost_of(step, self.options.steps, self.world.device)
        return cost | {"images_per_second": 2000 * row.batch / cost["step_ms"], "settings": how}

    def train(self, row: Training, _limit: float) -> Found:
        """A run as `semiseg train` makes it, with its loader and its evaluation."""
        options, method = self.options, row.settings["method.name"]
        name = options.dataset or default_name(options.data)
        preset = choose(load_dataset(options.data, name).kind)
        settings = row.settings | (TINY | {"train.steps": 2} if options.tiny else {})
        settings |= {"data.name": name, "data.labeled": options.labeled, "model.weights": options.weights}
        resolved = over_preset(preset, load_preset(preset, method), [(ORIGIN, settings)])
        run = self.folder / row.name
        result = train(resolved, data_root=options.data, runs_root=self.folder, out=run, device=options.device)
        rate = median(line["images_per_second"] for line in read_metrics(run) if "images_per_second" in line)
        reached = f"mIoU {100 * result['last']['miou']:.1f}" if result["last"] else "no validation images"
        said = f"{reached} after {result['steps']} steps on {name}, {rate:.1f} images/s with its loader"
        return {**result, "said": said, "images_per_second": rate, "preset": preset, "settings": settings}
