"""Cityscapes (Cordts et al., CVPR 2016): 2,975 street scenes to train on and 500 to validate, 2048x1024, 19 classes.

The label table is the one of the benchmark's own tools. Its polygons with negative ids (licence plates) are never
drawn, and two classes share the colour of poles; of these only `pole` is evaluated, so that a colour mask gives
`polegroup` as `pole`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.sources import mistaken
from semiseg_cli.core.sources.benchmark import Task, demand
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import Code, colour_code, declared, saved_as_colour


class Label(NamedTuple):
    """A row of the benchmark's table; `train_id` is the class, 255 (or -1) where the label is not evaluated."""

    name: str
    id: int
    train_id: int
    colour: tuple[int, int, int]


LABELS = (
    Label("unlabeled", 0, 255, (0, 0, 0)),
    Label("ego vehicle", 1, 255, (0, 0, 0)),
    Label("rectification border", 2, 255, (0, 0, 0)),
    Label("out of roi", 3, 255, (0, 0, 0)),
    Label("static", 4, 255, (0, 0, 0)),
    Label("dynamic", 5, 255, (111, 74, 0)),
    Label("ground", 6, 255, (81, 0, 81)),
    Label("road", 7, 0, (128, 64, 128)),
    Label("sidewalk", 8, 1, (244, 35, 232)),
    Label("parking", 9, 255, (250, 170, 160)),
    Label("rail track", 10, 255, (230, 150, 140)),
    Label("building", 11, 2, (70, 70, 70)),
    Label("wall", 12, 3, (102, 102, 156)),
    Label("fence", 13, 4, (190, 153, 153)),
    Label("guard rail", 14, 255, (180, 165, 180)),
    Label("bridge", 15, 255, (150, 100, 100)),
    Label("tunnel", 16, 255, (150, 120, 90)),
    Label("pole", 17, 5, (153, 153, 153)),
    Label("polegroup", 18, 255, (153, 153, 153)),
    Label("traffic light", 19, 6, (250, 170, 30)),
    Label("traffic sign", 20, 7, (220, 220, 0)),
    Label("vegetation", 21, 8, (107, 142, 35)),
    Label("terrain", 22, 9, (152, 251, 152)),
    Label("sky", 23, 10, (70, 130, 180)),
    Label("person", 24, 11, (220, 20, 60)),
    Label("rider", 25, 12, (255, 0, 0)),
    Label("car", 26, 13, (0, 0, 142)),
    Label("truck", 27, 14, (0, 0, 70)),
    Label("bus", 28, 15, (0, 60, 100)),
    Label("caravan", 29, 255, (0, 0, 90)),
    Label("trailer", 30, 255, (0, 0, 110)),
    Label("train", 31, 16, (0, 80, 100)),
    Label("motorcycle", 32, 17, (0, 0, 230)),
    Label("bicycle", 33, 18, (119, 11, 32)),
    Label("license plate", -1, -1, (0, 0, 142)),
)
EVALUATED = tuple(label for label in LABELS if label.train_id in range(19))
CLASSES = Classes(
    names=tuple(label.name for label in EVALUATED),
    palette=tuple(label.colour for label in EVALUATED),
    ignore=IGNORE,
    licence="Cityscapes licence: non-commercial research and teaching, https://www.cityscapes-dataset.com/license/",
)
TRAIN, VAL = 2975, 500  # published counts
WINDOW = 801  # side of the sliding evaluation window in the field's protocol, pixels

IMAGES, MASKS = "leftImg8bit", "gtFine"
_WANTED = re.compile(
    rf"(^|/)({IMAGES}|{MASKS})/(train|val)/[^/]+/[^/]+_(leftImg8bit|labelIds|labelTrainIds|color)\.png$"
)
SOUGHT = re.compile(rf"({IMAGES}|{MASKS})_trainvaltest\.zip", re.IGNORECASE)  # names of archives
UNPACK = f"unpack {IMAGES}_trainvaltest.zip and {MASKS}_trainvaltest.zip again, or give them with --archive"


def _colours() -> dict[Code, int]:
    """Colours to classes; of those that share one the evaluated counts. A mask of greys may be saved as such."""
    classes = {label.colour: label.train_id for label in sorted(LABELS, key=lambda label: label in EVALUATED)}
    greys: dict[Code, int] = {colour[0]: target for colour, target in classes.items() if len({*colour}) == 1}
    return greys | {colour_code(colour): target for colour, target in classes.items()}


_VALUES = {  # by the end of the label file's name, the first that is there counts
    "labelIds": saved_as_colour({label.id: label.train_id for label in LABELS if label.id >= 0} | {IGNORE: IGNORE}),
    "labelTrainIds": saved_as_colour({label.train_id: label.train_id for label in EVALUATED} | {IGNORE: IGNORE}),
    "color": _colours(),
}
TRANSLATIONS = {kind: declared(values, len(EVALUATED)) for kind, values in _VALUES.items()}


def is_wanted(name: str) -> bool:
    """Whether a member of an archive is of use: images and labels of train and val."""
    return bool(_WANTED.search(name)) and "__MACOSX" not in name


def is_part(folder: Path, names: AbstractSet[str]) -> bool:
    """Whether a folder with these names in it holds the images or the labels."""
    return bool({IMAGES, MASKS} & names) and folder.name not in (IMAGES, MASKS)


def find(places: Sequence[Path]) -> tuple[Path, Path] | None:
    """The folders leftImg8bit and gtFine at or below some folders; None without either, DataError for one alone."""
    found = [find_one(places, kind) for kind in (IMAGES, MASKS)]
    if found[0] and found[1]:
        return found[0], found[1]
    if not any(found):
        return None
    lacking = MASKS if found[0] else IMAGES
    there = found[0] or found[1]
    what = f"{there} is there, its counterpart {lacking} is not"
    raise DataError(what, fix=f"unpack {lacking}_trainvaltest.zip beside it, or give both archives with --archive")


def find_one(places: Sequence[Path], kind: str) -> Path | None:
    """The folder leftImg8bit, or gtFine, at or below some folders."""
    bases = [place.parent if place.name in (IMAGES, MASKS) else place for place in places]
    candidates = (base / below / kind for base in bases for below in (".", "cityscapes"))
    return next((folder for folder in candidates if folder.is_dir()), None)


def gather(images: Path, masks: Path) -> list[Task]:
    """Every image of train and val with its label. Raises DataError for a half-unpacked tree."""
    tasks: list[Task] = []
    for part in ("train", "val"):
        photos = dict(_files(images / part, (IMAGES,)))
        labels = dict(_files(masks / part, tuple(TRANSLATIONS)))
        if not photos:
            raise DataError(f"{images / part} holds no *_{IMAGES}.png", fix=UNPACK)
        bare = [f"{id}_{MASKS}_labelIds.png" for id in photos.keys() - labels.keys()]
        lost = [f"{id}_{IMAGES}.png" for id in labels.keys() - photos.keys()]
        drawn = any((masks / part).glob("*/*_polygons.json")) and not labels
        demand(masks / part, "labels", bare, len(photos), mistaken.of_json(masks) if drawn else UNPACK)
        demand(images / part, "images", lost, len(labels), UNPACK)
        for id in sorted(photos):
            kind, label = labels[id]
            tasks.append(Task(id, part, photos[id][1], label, TRANSLATIONS[kind]))
    twice = sorted(id for id, count in Counter(task.id for task in tasks).items() if count > 1)
    if twice:
        what = f"{images} has {counted(len(twice), 'image')} in train and in val"
        raise DataError(what, why=", ".join(twice[:5]), fix=UNPACK)
    return tasks


def _files(folder: Path, kinds: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, Path]]]:
    """Image id, kind and path of the files below a folder; of several kinds for an id the first counts."""
    for kind in reversed(kinds):
        ending = f"_{kind}.png"
        for path in folder.glob(f"*/[!.]*{ending}"):
            yield path.name.removesuffix(ending).removesuffix(f"_{MASKS}"), (kind, path)
