"""Predictions of many images, batch by batch: what evaluation, `semiseg predict` and the pictures are made from.

Images are never padded, and predictions have their size; those of equal exact shape share a forward.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.georeference import Tags
from semiseg_cli.core.data.loader import begin_worker
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.photos import reduced
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.data.workers import made
from semiseg_cli.core.errors import DataError, SemisegError
from semiseg_cli.core.files import whole
from semiseg_cli.core.inference.enlarging import bands, decided
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.ops.processes import share_of

Array = np.ndarray[Any, np.dtype[np.uint8]]
Load = Callable[[Record], tuple[Array, Array | None]]  # image HxWx3 RGB and, where it is wanted, mask HxW


class Predicted(NamedTuple):
    """Images of equal shape, all on the device: predicted class (uint8), and the mask if it was loaded.

    Where probabilities are asked for: that of the class, and of all classes at the size at which the network saw the
    images (see `enlarging`).
    """

    records: list[Record]
    label_BHW: Tensor
    truth_BHW: Tensor | None
    conf_BHW: Tensor | None = None
    probs_BKhw: Tensor | None = None


def load_image(record: Record) -> tuple[Array, None]:
    """The image of a prepared record; DataError when it is not as large as the index says."""
    return decode_record(record), None


def predictions(
    predictor: Predictor,
    records: Sequence[Record],
    *,
    workers: int = 0,
    load: Load = load_image,
    probabilities: bool = False,
    shared: bool = False,
) -> Iterator[Predicted]:
    """Predictions of every record, in groups of equal exact shape; within a shape, in the order of the records.

    shared: of this process's groups alone. Groups are those that one process has, so that every forward is the same.
    workers: processes that decode. probabilities: whether they are wanted as well, which takes longer. The net is in
    eval mode until the iterator ends; then each of its modules has its mode again.
    """
    device = predictor.device
    every = _groups(records, predictor)
    groups = list(share_of(every) if shared else every)
    source = _Files(groups, load, predictor.long_side)
    count = min(workers, len(groups))
    files = made(source, range(len(groups)), count, begin_worker, pin=device.type == "cuda", ahead=2)
    with closing(files), predictor.evaluating():
        for group, loaded in zip(groups, files, strict=True):
            image_BHW3, mask_BHW = loaded
            size = group[0].height, group[0].width
            truth_BHW = None if mask_BHW is None else mask_BHW.to(device, non_blocking=True)
            if not probabilities:
                yield Predicted(group, predictor.labels(image_BHW3, size), truth_BHW)
                continue
            probs_BKhw = predictor(image_BHW3)
            label_BHW, conf_BHW = decided(probs_BKhw, size)
            yield Predicted(group, label_BHW, truth_BHW, conf_BHW, probs_BKhw)
            del probs_BKhw  # else it would lie beside the next


def save_predictions(part: Predicted, folder: Path, palette: Sequence[Sequence[int]]) -> None:
    """Write each prediction as an 8-bit palette PNG, `<folder>/<id>.png`, each file whole or not at all."""
    for record, label in zip(part.records, part.label_BHW.cpu().numpy(), strict=True):
        save_index(below(folder, f"{record.id}.png"), label, palette)


def save_index(path: Path, label_HW: Array, palette: Sequence[Sequence[int]], tags: Tags | None = None) -> None:
    """Write class indices as an 8-bit palette PNG, or with `tags` as a palette TIFF that lies where they say."""
    colours = [value for colour in palette for value in colour]
    colours += [0] * (3 * 256 - len(colours))  # a shorter palette would be written with fewer bits
    image = Image.fromarray(label_HW)
    image.putpalette(colours)
    with written_whole(path) as new:
        if tags is None:
            image.save(new, format="PNG")
        else:
            image.save(new, format="TIFF", tiffinfo=tags, compression="tiff_lzw")


def save_confidence(path: Path, conf_HW: NDArray[np.float32]) -> None:
    """Write probabilities as a 16-bit grey PNG: 0 is 0, 65535 is 1."""
    with written_whole(path) as new:
        Image.fromarray(np.rint(conf_HW.clip(0, 1) * 65535).astype(np.uint16)).save(new, format="PNG")


def save_probabilities(path: Path, probs_1Khw: Tensor, size: tuple[int, int]) -> None:
    """Write the probabilities of all classes at an image's size (height, width): `probabilities` in an .npz.

    float16 (H, W, K), rows as they come from `bands`, so that they are never in memory as a whole.
    """
    head = {"descr": "<f2", "fortran_order": False, "shape": (*size, probs_1Khw.shape[1])}
    with (
        written_whole(path) as new,
        zipfile.ZipFile(new, "w") as archive,
        archive.open("probabilities.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for _, band_1KrW in bands(probs_1Khw, size):
            file.write(band_1KrW[0].permute(1, 2, 0).half().cpu().numpy().tobytes())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write that becomes `path` in one step, in the folder it needs; DataError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as new:
            yield new
    except OSError as error:
        raise DataError(
            f"cannot write {path}", why=str(error), fix="free some disk space, or choose another folder"
        ) from error


class _Files(Dataset[Any]):
    """Groups of images as the network sees them, and masks: uint8 Bxhxwx3 and BxHxW (or None), or a worker's error.

    The error travels as a value because a DataLoader would rebuild it from its text alone.
    """

    def __init__(self, groups: list[list[Record]], load: Load, long_side: int) -> None:
        self.groups, self.load, self.long_side = groups, load, long_side

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None] | SemisegError:
        try:
            pairs = [self.load(record) for record in self.groups[index]]
        except SemisegError as error:
            return error
        masks = [mask for _, mask in pairs if mask is not None]
        image_BHW3 = torch.from_numpy(np.stack([reduced(image, self.long_side) for image, _ in pairs]))
        return image_BHW3, torch.from_numpy(np.stack(masks)) if masks else None


def _groups(records: Sequence[Record], predictor: Predictor) -> Iterator[list[Record]]:
    """Records of equal shape, as many as fill a forward."""
    shapes: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        shapes.setdefault((record.height, record.width), []).append(record)
    for shape, same in shapes.items():
        count = predictor.together(*shape)
        yield from (same[i : i + count] for i in range(0, len(same), count))
