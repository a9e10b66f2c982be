"""Which photos to label next: a list, the photos, a sheet that shows why, and if asked for masks to correct."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semiseg_cli.core.data.again import naming_bad_files
from semiseg_cli.core.data.depths import levels_of
from semiseg_cli.core.data.index import is_prepared
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, UsageError, counted, few_lines
from semiseg_cli.core.files import network_of
from semiseg_cli.core.inference.predictor import CPU_PIXELS, Predictor
from semiseg_cli.core.inference.uncertainty import entropies
from semiseg_cli.core.partitions.picking import Floats, Picks, Places, doubt, unit_rows
from semiseg_cli.core.partitions.picking import pick as choose
from semiseg_cli.core.training.alike import alike, same_file
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World, sharing
from semiseg_cli.core.training.threads import take_threads
from semiseg_cli.stages import tracing
from semiseg_cli.stages.building import interruptible
from semiseg_cli.stages.evaluate import same_classes
from semiseg_cli.stages.pick_pool import Pool, of_dataset, of_folder
from semiseg_cli.stages.picked_files import IMAGES, LIST, claim, write_photos, write_sheet
from semiseg_cli.stages.pooled import Pooling
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.progress import Progress, silent

ENCODER = "efficientnet_lite0"


def pick(
    source: str,
    count: int,
    *,
    root: Path,
    labeled: str = "",
    encoder: str = ENCODER,
    weights: str = "auto",
    network: Path | None = None,
    prelabel: bool = False,
    format: str = "",
    copy: bool = False,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Choose `count` photos and write them into `out`; returns what and why, and whether the dataset has their masks.

    source: the name of a prepared dataset, else a folder. labeled: as for `train`, which of the dataset's images count
    as labeled; "": all that have a mask. encoder, weights: as for `semiseg pair`. network: a checkpoint; photos that it
    is unsure about weigh more. prelabel: its masks are written too, with `format` as annotations besides.
    Several processes share features and the network's doubt; the first chooses, and has the answer.
    Fewer are chosen where no more are different. Raises UsageError, DataError and CheckpointError with what to do; a
    photo of a folder that cannot be read is listed.
    """
    if prelabel and network is None:
        raise UsageError("--prelabel needs a network that makes the masks", fix="--run RUN, or --run newest")
    if format and not prelabel:
        raise UsageError(f"--format {format} says how the masks of --prelabel are written", fix="--prelabel --run RUN")
    if format:
        tracing.require()
    with sharing(device) as world:

        def look() -> Pool:
            pool = _pool(source, root, labeled, out or Path("picked"), progress, note)
            if count > len(pool.free):
                what = f"{counted(count, 'photo')} asked for, {pool.name} has {len(pool.free)} without a label"
                raise DataError(what, fix=f"-n {len(pool.free)} or fewer")
            return pool

        pool = alike("pool", look, lambda pool: {"photos": f"{len(pool.records):,}"}, world)
        net = _Network.of(same_file(network_of(network), world), pool, world) if network else None
        features = _Features(pool, Pooling.of(encoder, weights, world, note))
        known, free = features.compute(world, progress)
        rows = np.concatenate([known, free])
        doubt_N = net.doubt(pool, rows, len(known), progress) if net else None
    if not world.main:
        return {}
    if count > len(free):
        what = f"{counted(count, 'photo')} asked for, {len(free)} of {pool.name} can be read"
        raise DataError(what, why=few_lines(features.unreadable), fix=f"-n {len(free)} or fewer")
    x_ND = features.read(rows)
    picks = choose(x_ND, np.arange(len(known)), count, seed=seed, weight_N=doubt_N)
    if len(picks.places) < count:
        note(f"{len(picks.places)} instead of {count}: every other photo is nearly the same as one of these or labeled")
    rule = _rule(features.pooling.name, len(known), network)
    out = claim(out)
    write_photos(out, pool, [rows[row] for row in picks.places], copy)
    sheet = write_sheet(out, pool, rows, x_ND, picks, rule) if picks.places else {"sheets": [], "page": None}
    written: dict[str, Any] = {"labels": None, "annotations": None}
    if prelabel and network and picks.places:
        alone = World(device=world.device)  # they are a few
        how: dict[str, Any] = {"format": format, "world": alone, "progress": progress, "note": note}
        found = predict_images(network, [out / IMAGES], out=out, **how)
        written = {name: found[name] for name in written}
    return {
        "data": pool.name, "kind": pool.dataset.kind if pool.dataset else None, "masks": pool.masks or None,
        "have_masks": all(pool.records[rows[row]].mask for row in picks.places) and bool(picks.places),
        "labeled": len(known), "pool": len(free), "asked": count, "seed": seed, "rule": rule,
        "picked": _picked(pool, rows, picks, doubt_N),
        "alike": int((picks.alike != np.arange(len(rows))).sum()), "unreadable": list(features.unreadable),
        "encoder": features.pooling.line, "features": features.told, "network": str(network) if network else None,
        "out": str(out), "list": str(out / LIST), "images": str(out / IMAGES), **sheet, **written,
    }  # fmt: skip


def _pool(source: str, root: Path, labeled: str, out: Path, progress: Progress, note: Callable[[str], None]) -> Pool:
    """A prepared dataset of this name goes before a folder. Masks in a dataset's folder are no photos."""
    if is_prepared(root / source) or is_prepared(Path(source)) or not Path(source).is_dir():
        return of_dataset(root, source, labeled, note)
    if labeled:
        why = f"nothing is prepared as {source} in {root}"
        raise UsageError(f"--labeled is for prepared datasets, and {source} is a folder", why=why)
    return of_folder(Path(source), root, out, note, progress)


class _Features:
    """The pool's features, what computing them took, and which files could not be read."""

    def __init__(self, pool: Pool, pooling: Pooling) -> None:
        self.pool, self.pooling = pool, pooling
        self.told: dict[str, Any] = {}
        self.unreadable = list(pool.unreadable)

    def compute(self, world: World, progress: Progress) -> tuple[Places, Places]:
        """Places of the labeled and of the other photos that can be read. In a dataset all must be."""
        pool, began = self.pool, time.monotonic()
        with interruptible("computing features"), progress("features", len(pool.records)) as advance:
            how: dict[str, Any] = {"load": pool.load, "lenient": pool.dataset is None, "advance": advance}
            with naming_bad_files(pool.dataset) if pool.dataset else nullcontext():
                self.features, computed = self.pooling.compute(pool.records, pool.features, world, **how)
        seconds, path = round(time.monotonic() - began, 2), self.features.path
        self.told = {"computed": computed, "seconds": seconds, "file": str(path)}
        readable = ~np.isnan(self.features.column())
        broken = pool.records.only(np.flatnonzero(~readable))
        self.unreadable += [f"{record.image}: cannot be decoded" for record in broken]
        known, free = (places.at(np.arange(len(places))) for places in (pool.labeled, pool.free))
        return known[readable[known]], free[readable[free]]

    def read(self, rows: Places) -> Floats:
        """Their features at length 1."""
        return unit_rows(lambda part: self.features.read(rows[part]).numpy(), len(rows), self.features.width)


class _Network(NamedTuple):
    """The network that says what it is unsure about, with what its file says."""

    predictor: Predictor
    meta: dict[str, Any]

    @classmethod
    def of(cls, path: Path, pool: Pool, world: World) -> _Network:
        """Raises DataError where the dataset has other classes than the network."""
        place = world.device
        net, meta = load_network(path, place)
        if pool.dataset:
            try:
                same_classes(pool.dataset, meta["data"]["classes"], path)
            except DataError as error:
                raise DataError(error.what, why=error.why, fix=f"--run a run on {pool.name}; none: no --run") from None
        take_threads(meta["config"].get("train.threads", 0), net, CPU_PIXELS, place)
        return cls(Predictor.of(net, meta, place), meta)

    def doubt(self, pool: Pool, rows: Places, labeled: int, progress: Progress) -> Floats:
        """How unsure it is of every row; 1 for the first, labeled ones, which count nowhere."""
        records = pool.records.only(rows[labeled:])
        levels, data = levels_of(self.meta["data"]), self.meta["data"]

        def load(record: Record) -> tuple[Any, None]:
            return (pool.load(record) if pool.dataset else read_image(record.image, levels)), None

        with progress("asking the network", len(records)) as advance:
            found = entropies(self.predictor, records, len(data["classes"]), load=load, advance=advance)
        return np.concatenate([np.ones(labeled, np.float32), doubt(*found)])


def _rule(encoder: str, labeled: int, network: Path | None) -> str:
    """How they were chosen, in a sentence."""
    stays = f" around {counted(labeled, 'labeled photo')}" if labeled else ""
    weighs = f", where photos weigh by how unsure {network} is of them (mean entropy, rare classes count more)"
    return f"medoids of k-means on pooled features of {encoder}{stays}{weighs if network else ''}"


def _picked(pool: Pool, rows: Places, picks: Picks, doubt_N: Floats | None) -> list[dict[str, Any]]:
    """Of every photo its id and file, how many others it stands for, and how many of these are the same picture."""
    return [
        {
            "id": pool.records[rows[row]].id,
            "image": str(pool.original(rows[row])),
            "stands_for": int((picks.nearest == number).sum()) - 1,
            "same": int((picks.alike == row).sum()) - 1,
            "doubt": None if doubt_N is None else round(float(doubt_N[row]), 4),
        }
        for number, row in enumerate(picks.places)
    ]
