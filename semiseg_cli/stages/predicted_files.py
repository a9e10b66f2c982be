"""The files of `semiseg predict`. Below its output folder:

    labels/<path>.png          class indices, a palette PNG
    overlays/<path>.jpg        the image in its own light, with the hues of its classes and their outlines
    overlays/legend.png        what the colours mean
    confidence/<path>.png      probability of that class, 16-bit grey (65535 is 1), if asked for
    probabilities/<path>.npz   of all classes, float16 (height, width, classes) under `probabilities`, if asked for
    geotiff/<path>.tif         of a GeoTIFF: class indices again, lying where the image lies
    coco|labelme|cvat|yolo/    the labels as polygons, if asked for (`annotating.py`)
    classes.json               what the indices mean, as `prepare folder --classes` reads it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semiseg_cli.core.data.georeference import georeference
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.names import below
from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.files import write_bytes, write_text
from semiseg_cli.core.inference.predictions import Array, save_confidence, save_index, save_probabilities
from semiseg_cli.core.sources.colours import distinct
from semiseg_cli.core.viz.legend import Legend, as_png
from semiseg_cli.core.viz.overlay import tinted

WRITTEN = LABELS, OVERLAYS, CONFIDENCE, PROBABILITIES, GEOTIFF = (
    "labels", "overlays", "confidence", "probabilities", "geotiff",
)  # fmt: skip
NAMES, LEGEND = "classes.json", "legend.png"


class Prediction(NamedTuple):
    """Of one image: class indices uint8 HxW; where asked for, their probability, and all classes' at the size seen."""

    label_HW: Array
    conf_HW: NDArray[np.float32] | None = None
    probs_1Khw: Tensor | None = None


def full_palette(data: Mapping[str, Any], note: Callable[[str], None]) -> list[tuple[int, ...]]:
    """A checkpoint's colours, completed with unused default ones, and a note, where there are fewer than classes."""
    names = data["classes"]
    palette = [tuple(colour) for colour in data.get("palette", [])][: len(names)]
    if missing := names[len(palette) :]:
        free = [colour for colour in distinct(len(names)) if colour not in palette]
        has = f"{counted(len(palette), 'colour')} for {len(names)} classes"
        note(f"the checkpoint has {has}: default for {', '.join(missing)}")
        palette += free[: len(missing)]
    return palette


def read_index(path: Path) -> Array:
    """Labels as `Output` has written them."""
    with Image.open(path) as image:
        return np.array(image, np.uint8)


@dataclass
class Output:
    """Where predictions are written, and what of them. `placed` counts the images that have a place on Earth."""

    folder: Path
    palette: Sequence[Sequence[int]]
    overlay: bool = True
    confidence: bool = False
    probabilities: bool = False
    placed: int = 0

    def begin(self, data: Mapping[str, Any]) -> None:
        """The folder, and what the indices mean. data: of the checkpoint. DataError where nothing can be written."""
        names = {"names": data["classes"], "palette": self.palette, "ignore_index": data.get("ignore", 255)}
        try:
            (self.folder / LABELS).mkdir(parents=True, exist_ok=True)
            write_text(self.folder / NAMES, json.dumps(names, ensure_ascii=False) + "\n")
            if self.overlay:
                (self.folder / OVERLAYS).mkdir(exist_ok=True)
                colours = np.asarray(self.palette, np.uint8)
                key = as_png(Legend(data["classes"], colours, unlabeled=""), f"../{NAMES}")
                write_bytes(self.folder / OVERLAYS / LEGEND, key)
        except OSError as error:
            fix = "choose another folder: -o DIR"
            raise DataError(f"cannot write into {self.folder}", why=str(error), fix=fix) from error

    def write(self, id: str, source: Path, image: Array, found: Prediction) -> None:
        """All files of an image."""
        below(self.folder, id)
        save_index(self.folder / LABELS / f"{id}.png", found.label_HW, self.palette)
        if tags := georeference(source):
            save_index(self.folder / GEOTIFF / f"{id}.tif", found.label_HW, self.palette, tags)
            self.placed += 1
        if self.confidence and found.conf_HW is not None:
            save_confidence(self.folder / CONFIDENCE / f"{id}.png", found.conf_HW)
        if self.probabilities and found.probs_1Khw is not None:
            height, width = found.label_HW.shape
            save_probabilities(self.folder / PROBABILITIES / f"{id}.npz", found.probs_1Khw, (height, width))
        if self.overlay:
            path = self.folder / OVERLAYS / f"{id}.jpg"
            try:
                write_image(path, tinted(image, found.label_HW, np.asarray(self.palette, np.uint8)))
            except OSError as error:
                raise DataError(f"cannot write {path}", why=str(error), fix="free some disk space") from error

    def places(self) -> dict[str, str | None]:
        """The folders by what is in them; None for what was not written."""
        written = {
            LABELS: True, OVERLAYS: self.overlay, CONFIDENCE: self.confidence, PROBABILITIES: self.probabilities,
            GEOTIFF: self.placed > 0,
        }  # fmt: skip
        return {"out": str(self.folder)} | {
            name: str(self.folder / name) if there else None for name, there in written.items()
        }
