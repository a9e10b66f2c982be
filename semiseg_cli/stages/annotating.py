"""Label maps as annotations that tools for drawing open, for labels that are to be corrected rather than drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.polygons.labels import background_of
from semiseg_cli.core.sources.polygons.written import WRITERS, Classes, Drawn
from semiseg_cli.stages import tracing

Annotate = Callable[[str, Path, NDArray[np.uint8]], None]


@contextmanager
def annotating(
    folder: Path, format: str, names: Sequence[str], palette: Sequence[Sequence[int]], tolerance: float = 1.0
) -> Iterator[Annotate]:
    """Gives `annotate(name, photo, label_HW)`, which adds an image to the annotations in `folder`.

    format: one of `WRITERS`. name: what the annotations call the image, with its suffix; photo: where it lies;
    label_HW: classes at the size of the upright photo. Pixels of a class named background, and ignored ones, are left
    to be in no outline. tolerance: see `tracing.traced`. Files of all images are there when the context ends well.
    Raises UsageError for an unknown format and without Shapely, DataError where nothing can be written.
    """
    if format not in WRITERS or tolerance < 0:
        raise UsageError(f"there are no annotations '{format}' at tolerance {tolerance}", fix="--format coco")
    tracing.require()
    nothing = background_of(names)
    written = {index: name for index, name in enumerate(names) if index != nothing}
    without = [IGNORE] if nothing is None else [IGNORE, nothing]
    classes = Classes(written, dict(enumerate(palette)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with WRITERS[format](folder, classes) as write:

            def annotate(name: str, photo: Path, label_HW: NDArray[np.uint8]) -> None:
                height, width = label_HW.shape
                write(Drawn(name, photo, height, width, tracing.traced(label_HW, tolerance, without)))

            yield annotate
    except OSError as error:
        raise DataError(
            f"cannot write annotations into {folder}", why=str(error), fix="free some disk space"
        ) from error
