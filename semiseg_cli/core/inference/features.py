"""Pooled features of many images, into a file (`feature_rows.py`).

The rows are on disk, never all in memory: a million of 2,048 numbers are 4 GB. Images are shrunk to a long side of
SIDE pixels, which their place among others does not need more of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.loader import begin_worker, workers_for
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.errors import CheckpointError, DataError, SemisegError
from semiseg_cli.core.inference.feature_rows import Features, Writer
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.processes import here, share_of, told
from semiseg_cli.core.ops.sizes import fit_image

SIDE = 512
TOGETHER, PIXELS = 32, 2**22  # images and pixels of a group; no device's, so that another one can go on
CPU_PIXELS = 2**18  # of a forward on a CPU, whose caches larger maps outgrow
Load = Callable[[Record], NDArray[np.uint8]]  # the image of a record, HxWx3 RGB


def extract(
    encoder: Encoder,
    records: Sequence[Record],
    features: Features,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    load: Load = decode_record,
    lenient: bool = False,
    advance: Callable[[int], object] = lambda images: None,
) -> int:
    """Write the mean of the encoder's last map for every record that is not in the file yet; returns how many were.

    Several processes share the groups, whose forwards are those of one process; every process must call it.

    encoder: images to maps, finest first; in eval mode. lenient: the row of an
    image that cannot be read is NaN. advance: told the number of images just done.
    Raises DataError for an image that cannot be read, unless lenient, and a disk that is full.
    """
    images = Records.of(records)
    try:
        marks = told(features.begin() if here()[0] == 0 else b"")[0]  # before anybody writes
        groups = enumerate(_groups(images)) if 1 in marks else ()
        before = sum(len(group) for number, group in groups if _is_marked(marks, number))
        advance(before)
        with Writer(features) as writer:
            found = _rows(encoder, images, marks, mean, std, device, load, lenient)
            for (number, group), rows in zip(_left(images, marks), found, strict=True):
                for place, row in zip(group.tolist(), rows, strict=True):
                    writer.put(place, row)
                advance(len(group))
                writer.done(number)
    except OSError as error:
        raise DataError(f"cannot write {features.path}", why=str(error), fix="free some disk space") from error
    told(None)  # all rows are there for all
    return len(images) - before


def _left(images: Records, marks: bytes) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The groups, and their numbers, that are to be done by this process."""
    groups = enumerate(_groups(images))
    return share_of((number, group) for number, group in groups if not _is_marked(marks, number))


def _is_marked(marks: bytes, number: int) -> bool:
    return marks[number : number + 1] == b"\1"


def _rows(
    encoder: Encoder, images: Records, marks: bytes, mean: Sequence[float], std: Sequence[float],
    device: torch.device, load: Load, lenient: bool,
) -> Iterator[NDArray[np.float16]]:  # fmt: skip
    """Features of every group that is left to this process, (B, C)."""
    files = DataLoader(
        _Files(images, load),
        batch_size=None,
        sampler=(group for _, group in _left(images, marks)),
        num_workers=workers_for(-1, len(images), SIDE * SIDE * 3) if next(_left(images, marks), None) else 0,
        generator=torch.Generator(),
        worker_init_fn=begin_worker,  # a forked process cannot use the threads that OpenCV has here
    )
    mean_311, std_311 = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    for group, loaded, broken in files:
        if broken and not lenient:
            raise next(iter(broken.values()))
        at_once = len(group) if device.type != "cpu" else max(1, CPU_PIXELS // (loaded.shape[1] * loaded.shape[2]))
        parts = [_pooled(encoder, part.to(device), mean_311, std_311) for part in loaded.split(at_once)]
        rows = torch.cat(parts).cpu().numpy()
        if not np.isfinite(rows).all():
            raise CheckpointError(
                f"the encoder's features of {images[group[0]].image} are beyond float16",
                fix="another --encoder or --weights",
            )
        rows[list(broken)] = np.nan
        yield rows


@torch.inference_mode()
def _pooled(encoder: Encoder, image_BHW3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    """The mean of the encoder's last map, float16 (B, C), of uint8 images."""
    rgb01_B3HW = image_BHW3.permute(0, 3, 1, 2).float() / 255
    maps: list[Tensor] = encoder(fit_image((rgb01_B3HW - mean_311) / std_311, encoder.multiple))
    return maps[-1].float().mean((2, 3)).half()


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
