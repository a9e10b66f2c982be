"""Tiny trees in the layouts of the benchmarks: VOCdevkit with palette masks, SBD's .mat files, Cityscapes."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from semiseg_cli.core.sources.cityscapes import LABELS
from semiseg_cli.core.sources.voc import CLASSES, VOID

SIZE = (24, 32)  # height, width
TRAIN, VAL = ("2007_000001", "2007_000002", "2008_000003"), ("2007_000033", "2009_000034")
MORE = ("2010_000101", "2011_000102")  # only SBD labels these
VOC_PALETTE = [*sum(CLASSES.palette, ()), *([0] * 3 * (255 - 21)), *VOID]


def labels(id: str, void: bool = True) -> NDArray[np.uint8]:
    """A label map of an image: two objects on background, with void between them or without."""
    rng = np.random.default_rng([ord(letter) for letter in id])
    mask = np.zeros(SIZE, np.uint8)
    mask[4:12, 4:28], mask[14:22, 4:28] = rng.choice(np.arange(1, 21), 2, replace=False)
    if void:
        mask[12:14, 4:28] = 255
    return mask


def photo(path: Path, id: str, size: tuple[int, int] = SIZE) -> None:
    """A smooth picture of the image's own: four colours that run into each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = np.random.default_rng([1, *(ord(letter) for letter in id)]).integers(0, 256, (2, 2, 3), np.uint8)
    Image.fromarray(corners).resize(size[::-1], Image.Resampling.BILINEAR).save(path)


def palette_png(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask, "P")
    image.putpalette(VOC_PALETTE)
    image.save(path)


def voc_tree(folder: Path, photos: Sequence[str] = (*TRAIN, *VAL, *MORE)) -> Path:
    """`folder/VOCdevkit`, whose VOC2012 has labels for TRAIN and VAL."""
    devkit = folder / "VOCdevkit" / "VOC2012"
    for id in photos:
        photo(devkit / "JPEGImages" / f"{id}.jpg", id)
    for id in (*TRAIN, *VAL):
        palette_png(devkit / "SegmentationClass" / f"{id}.png", labels(id))
    lists = devkit / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, ids in (("train", TRAIN), ("val", VAL), ("trainval", (*TRAIN, *VAL))):
        (lists / f"{part}.txt").write_text("".join(f"{id}\n" for id in ids))
    return devkit.parent


def sbd_tree(folder: Path, ids: Sequence[str] = (*TRAIN[:2], VAL[0], *MORE)) -> Path:
    """`folder/benchmark_RELEASE`, whose labels differ from VOC's own for the same image."""
    cls = folder / "benchmark_RELEASE" / "dataset" / "cls"
    cls.mkdir(parents=True)
    for id in ids:
        mask = labels(f"sbd {id}", void=False)
        outlines = np.empty((20, 1), object)
        for index in range(20):
            outlines[index, 0] = csc_matrix((mask == index + 1).astype(float))
        content = {"Boundaries": outlines, "Segmentation": mask, "CategoriesPresent": np.unique(mask)[1:, None]}
        savemat(cls / f"{id}.mat", {"GTcls": content}, do_compression=True)
    return folder / "benchmark_RELEASE"


def augmented_tree(folder: Path, ids: Sequence[str] = (*TRAIN, *VAL, *MORE)) -> Path:
    """`folder/SegmentationClassAug`, as the field passes SBD on: grey index PNGs, VOC's images among them."""
    for id in ids:
        path = folder / "SegmentationClassAug" / f"{id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels(f"sbd {id}", void=False)).save(path)
    return folder / "SegmentationClassAug"


def packed(folder: Path, archive: Path) -> Path:
    """An archive of a folder, by its suffix tar, tgz or zip."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
            tar.add(folder, folder.name)
    return archive


STREETS = {
    "train": ("aachen_000000_000019", "ulm_000001_000019", "ulm_000002_000019"),
    "val": ("lindau_000000_000019",),
}


def cityscapes_ids(id: str) -> NDArray[np.uint8]:
    """Every id from 0 to 33 in columns, in an order of the image's own."""
    order = np.random.default_rng([ord(letter) for letter in id]).permutation(34)
    return np.repeat(order.astype(np.uint8)[None], 16, 0)


def cityscapes_tree(folder: Path, kind: str = "labelIds") -> Path:
    """`folder/leftImg8bit` and `folder/gtFine` with the label files of one kind, and test images without."""
    by_id = sorted((label for label in LABELS if label.id >= 0), key=lambda label: label.id)
    for part, ids in (*STREETS.items(), ("test", ("berlin_000000_000019",))):
        for id in ids:
            city = id.split("_")[0]
            photo(folder / "leftImg8bit" / part / city / f"{id}_leftImg8bit.png", id, (16, 34))
            path = folder / "gtFine" / part / city / f"{id}_gtFine_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = {
                "labelIds": np.arange(34),
                "labelTrainIds": np.array([label.train_id for label in by_id]),
                "color": np.array([(*label.colour, 255) for label in by_id]),
            }[kind].astype(np.uint8)
            Image.fromarray(values[cityscapes_ids(id)]).save(path)
    return folder
