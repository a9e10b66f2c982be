"""SBD, the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): labels for 11,355 images of VOC.

It comes as published, a `.mat` file per image, or as the field passes it on: `SegmentationClassAug`, index PNGs.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.download import Published
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.reading import read_bytes

ARCHIVE = Published(
    name="benchmark.tgz",
    size=1_419_539_633,
    sha256="6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
    urls=("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",),
)
SOUGHT = re.compile(r"(benchmark(_RELEASE)?|SegmentationClassAug)\.(tgz|tar|tar\.gz|zip)", re.IGNORECASE)  # archives
FIX = (
    "give the folder benchmark_RELEASE of benchmark.tgz, a folder SegmentationClassAug of PNGs, or an archive of "
    "either: --sbd DIR|FILE"
)


def is_labels(folder: Path, names: AbstractSet[str]) -> bool:
    """Whether a folder with these names in it is SBD, as published or as the field passes it on."""
    if folder.name == "benchmark_RELEASE":
        return "dataset" in names
    around = folder.parent.name == "benchmark_RELEASE"  # which is what counts then
    return folder.name == "SegmentationClassAug" or (not around and "cls" in names and bool({"img", "inst"} & names))


def find_labels(place: Path) -> dict[str, Path]:
    """Label files by image id below a folder: `.mat` files in `cls`, or PNGs. Raises DataError if there are none."""
    for folder, suffix in _label_folders(place):
        if found := _files(folder, suffix):
            return found
    why = "no cls/*.mat and no *.png in it" if place.is_dir() else "it does not exist"
    raise DataError(f"{place} holds no labels of SBD", why=why, fix=FIX)


def holds_labels(place: Path) -> bool:
    """Whether `find_labels` would find some; it reads no folder to its end."""
    return any(next(folder.glob(f"[!.]*{suffix}"), None) for folder, suffix in _label_folders(place))


def _label_folders(place: Path) -> Iterator[tuple[Path, str]]:
    """Where labels may be below a folder, and the suffix that they have there."""
    yield from ((place / below / "cls", ".mat") for below in (".", "dataset", "benchmark_RELEASE/dataset"))
    yield from ((place / below, ".png") for below in (".", "SegmentationClassAug", "SegmentationClass"))


def find_images(place: Path) -> dict[str, Path]:
    """The photos that come with the `.mat` files, by id; none where only labels are there."""
    for below in (".", "dataset", "benchmark_RELEASE/dataset"):
        if found := _files(place / below / "img", ".jpg"):
            return found
    return {}


COMPRESSED, MOST = 15, 1 << 26  # an element of a MATLAB file; bytes of one


def read_mat(path: Path) -> NDArray[np.int32]:
    """The class of every pixel of an SBD `.mat` file, int32 HxW, 0 to 20. Raises DataError for any other file."""
    from scipy.io import loadmat

    try:
        _bounded(read_bytes(path))
        labels = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # scipy raises anything on damaged files
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} cannot be read as SBD's GTcls", why=why, fix="unpack SBD again") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise DataError(f"{path}: GTcls.Segmentation is not an array of labels", why=f"{labels.dtype} {labels.shape}")
    return labels.astype(np.int32)


def _bounded(data: bytes) -> None:
    """Raise ValueError for a MATLAB 5 file of which an element unpacks to more than MOST bytes."""
    place = 128  # after the file's header
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, place)
        if kind == COMPRESSED:
            unpacking = zlib.decompressobj()
            unpacking.decompress(data[place + 8 : place + 8 + length], MOST)
            if unpacking.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {MOST:,} bytes")
        place += 8 + length


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.glob(f"[!.]*{suffix}"))}
