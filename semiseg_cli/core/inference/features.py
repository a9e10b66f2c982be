"""Pooled features of many images in a file: one float16 row each, written as they come, resumed where they stopped.

The rows are on disk, never all in memory: a million of 2,048 numbers are 4 GB. Images are shrunk to a long side of
SIDE pixels, which their place among others does not need more of.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from semiseg_cli.core.data.decode import decode_image
from semiseg_cli.core.data.loader import begin_worker, workers_for
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import CheckpointError, DataError, SemisegError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.sizes import fit_image
from semiseg_cli.core.reading import read_json, regular

SIDE = 512
TOGETHER, PIXELS = 32, 2**22  # images and pixels of a group; no device's, so that another one can go on
CPU_PIXELS = 2**18  # of a forward on a CPU, whose caches larger maps outgrow
Load = Callable[[Record], NDArray[np.uint8]]  # the image of a record, HxWx3 RGB
SAVED, SECONDS = 2**16, 10.0  # progress is recorded after so many rows, all of the file that is in memory, or so long


class Written(TypedDict):
    """How far a file has been written."""

    done: int
    count: int
    width: int


@dataclass(frozen=True)
class Features:
    """The file of `count` rows of `width` numbers, and beside it (.json) how far it has been written."""

    path: Path
    count: int
    width: int

    def read(self, rows: Any) -> Tensor:
        """Some rows as float32 (N, width), of images that could be read. DataError where one is not finite.

        The file is mapped for this call only: a mapping counts as memory.
        """
        mapped = np.memmap(self.path, np.float16, "r", shape=(self.count, self.width))
        x_ND = torch.from_numpy(np.array(mapped[rows])).float()
        if not x_ND.isfinite().all():
            fix = f"{shlex.join(['rm', str(self.path)])}, and the same command makes it anew"
            raise DataError(f"{self.path} is damaged", why="it has numbers that are not finite", fix=fix)
        return x_ND

    def column(self) -> NDArray[np.float16]:
        """The first number of every row: NaN where the image could not be read."""
        return np.array(np.memmap(self.path, np.float16, "r", shape=(self.count, self.width))[:, 0])

    @property
    def done(self) -> int:
        """Groups of images that are in the file; 0 where it is not as long as its record says."""
        try:
            record = read_json(self.record, Written)
            fits = (record["count"], record["width"]) == (self.count, self.width)
            whole = self.path.stat().st_size == 2 * self.count * self.width
            return min(int(record["done"]), self.count) if fits and whole else 0
        except (OSError, ValueError):
            return 0

    @property
    def record(self) -> Path:
        return self.path.with_suffix(".json")

    def save(self, done: int) -> None:
        write_text(self.record, json.dumps({"done": done, "count": self.count, "width": self.width}) + "\n")


def prepared(record: Record) -> NDArray[np.uint8]:
    """A prepared image."""
    return decode_image(record.image, (record.height, record.width))


def extract(
    encoder: Encoder,
    records: Sequence[Record],
    features: Features,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    load: Load = prepared,
    lenient: bool = False,
    advance: Callable[[int], object] = lambda images: None,
) -> int:
    """Write the mean of the encoder's last map for every record that is not in the file yet; returns how many were.

    encoder: images to maps, finest first; in eval mode. lenient: the row of an
    image that cannot be read is NaN. advance: told the number of images just done.
    Raises DataError for an image that cannot be read, unless lenient, and a disk that is full.
    """
    images = Records.of(records)
    groups = _groups(images)
    done_before = [len(group) for group in islice(groups, features.done)]
    before, left = sum(done_before), len(images) - sum(done_before)
    files = DataLoader(
        _Files(images, load),
        batch_size=None,
        sampler=groups,
        num_workers=workers_for(-1, len(records), SIDE * SIDE * 3) if left else 0,
        generator=torch.Generator(),
        worker_init_fn=begin_worker,  # a forked process cannot use the threads that OpenCV has here
    )
    mean_311, std_311 = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    advance(before)
    try:
        mapped = _map(features, fresh=not done_before)
        done, waiting, saved = len(done_before), 0, time.monotonic()
        try:
            for group, loaded, broken in files:
                if broken and not lenient:
                    raise next(iter(broken.values()))
                pixels = loaded.shape[1] * loaded.shape[2]
                at_once = len(group) if device.type != "cpu" else max(1, CPU_PIXELS // pixels)
                for start in range(0, len(group), at_once):
                    part = slice(start, start + at_once)
                    pooled = _pooled(encoder, loaded[part].to(device), mean_311, std_311)
                    if not pooled.isfinite().all():
                        raise CheckpointError(
                            f"the encoder's features of {images[group[start]].image} are beyond float16",
                            fix="another --encoder or --weights",
                        )
                    mapped[group[part]] = pooled.cpu().numpy()
                    advance(len(pooled))
                mapped[[group[place] for place in broken]] = np.nan
                done, waiting = done + 1, waiting + len(group)
                if waiting >= SAVED or time.monotonic() - saved >= SECONDS:
                    mapped.flush()
                    features.save(done)
                    mapped, waiting, saved = _map(features), 0, time.monotonic()
        finally:  # also where it is interrupted, or an image is damaged: what is done is kept
            if waiting:
                mapped.flush()
                features.save(done)
    except OSError as error:
        raise DataError(f"cannot write {features.path}", why=str(error), fix="free some disk space") from error
    return left


@torch.inference_mode()
def _pooled(encoder: Encoder, image_BHW3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    """The mean of the encoder's last map, float16 (B, C), of uint8 images."""
    rgb01_B3HW = image_BHW3.permute(0, 3, 1, 2).float() / 255
    maps: list[Tensor] = encoder(fit_image((rgb01_B3HW - mean_311) / std_311, encoder.multiple))
    return maps[-1].float().mean((2, 3)).half()


def _map(features: Features, fresh: bool = False) -> Any:
    """The file, to be written to. OSError where something else than a file has its name."""
    if features.path.exists():
        regular(features.path)
    mode: Any = "w+" if fresh else "r+"
    return np.memmap(features.path, np.float16, mode, shape=(features.count, features.width))


def _shape(height: int, width: int) -> tuple[int, int]:
    """Height and width at which an image of this size is shown to the encoder."""
    scale = min(1.0, SIDE / max(height, width))
    return max(32, round(height * scale)), max(32, round(width * scale))


def _groups(records: Records) -> Iterator[NDArray[np.int64]]:
    """Places of records that are read together: of one shape, in the order of the list; first that of the first one.

    They are found as they are asked for, in one pass over the list for every shape.
    """
    first = np.full(len(records.sizes), len(records))
    for start, numbers in records.shapes():
        first[numbers[::-1]] = np.minimum(first[numbers[::-1]], np.arange(start, start + len(numbers))[::-1])
    shapes: dict[tuple[int, int], list[int]] = {}
    for number in first.argsort(kind="stable")[: int((first < len(records)).sum())].tolist():
        shapes.setdefault(_shape(*records.sizes[number].tolist()), []).append(number)
    for (height, width), members in shapes.items():
        count, shown = max(1, min(TOGETHER, PIXELS // (height * width))), np.zeros(len(first), bool)
        shown[members] = True
        waiting = np.zeros(0, np.int64)
        for start, numbers in records.shapes():
            waiting = np.concatenate([waiting, start + np.flatnonzero(shown[numbers])])
            whole = len(waiting) - len(waiting) % count
            yield from waiting[:whole].reshape(-1, count)
            waiting = waiting[whole:]
        if len(waiting):
            yield waiting


class _Files(Dataset[Any]):
    """Of a group its places, its images decoded (uint8 BxHxWx3), and by number in it what is wrong with broken ones.

    Errors are returned, since DataLoader would build a raised one again from its text.
    """

    def __init__(self, records: Records, load: Load) -> None:
        self.records, self.load = records, load

    def __getitem__(self, group: NDArray[np.int64]) -> tuple[list[int], Tensor, dict[int, SemisegError]]:
        images, broken, places = [], dict[int, SemisegError](), group.tolist()
        for number, record in enumerate(self.records[place] for place in places):
            shape = _shape(record.height, record.width)
            try:
                images.append(_sized(self.load(record), shape))
            except SemisegError as error:
                images.append(np.zeros((*shape, 3), np.uint8))
                broken[number] = error
        return places, torch.from_numpy(np.stack(images)), broken


def _sized(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == shape:
        return image
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
