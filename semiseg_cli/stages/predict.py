"""Predict files and folders of photos: index PNGs and overlays, at the size and the orientation people see them in.

Images stream through: a few are decoded ahead, those of equal shape share forwards, and files are written beside, a few
behind, so that a folder of any length takes the memory of a handful. Several processes share a folder block by block.
What is read says `predicted_photos.py`, what is written `predicted_files.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from semiseg_cli.core.beside import beside
from semiseg_cli.core.data.depths import Levels, is_deep, levels_of
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.files import digest, network_of
from semiseg_cli.core.inference.options import AS_TRAINED, Inference
from semiseg_cli.core.inference.predictions import Array, predictions
from semiseg_cli.core.inference.predictor import CPU_PIXELS, Predictor
from semiseg_cli.core.ops.processes import share_of, told
from semiseg_cli.core.training.alike import alike, one_folder, same_file
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import World, sharing
from semiseg_cli.core.training.threads import take_threads
from semiseg_cli.stages.annotating import annotating
from semiseg_cli.stages.building import interruptible
from semiseg_cli.stages.predicted_before import Before, going_on
from semiseg_cli.stages.predicted_files import GEOTIFF, LABELS, Output, Prediction, full_palette, read_index
from semiseg_cli.stages.predicted_photos import find_images
from semiseg_cli.stages.progress import Progress, silent

BLACK = 32  # of 255: no photo that shows anything is darker everywhere
AHEAD = 4  # images decoded while others are predicted
BEHIND = 4  # images whose files are not written yet
BLOCK = 16  # images that one process of several takes at a time
CHUNK_PIXELS = 2**24  # of decoded images that are sorted by shape and predicted together


class Photo(NamedTuple):
    """A decoded image (uint8 HxWx3) and `seen`, what the network sees of it. block: the number of its block."""

    id: str
    path: Path
    image: Array
    seen: Array
    block: int


def predict_images(
    checkpoint: Path,
    images: Sequence[Path],
    how: Inference = AS_TRAINED,
    *,
    out: Path,
    overlay: bool = True,
    confidence: bool = False,
    probabilities: bool = False,
    format: str = "",
    tolerance: float = 1.0,
    long_side: int | None = None,
    device: str = "auto",
    world: World | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Predict `images`, as `find_images` finds them, into `out`; the result of `semiseg predict`.

    checkpoint: a file, or a run directory. how: with a window of `auto`, very large images go through windows. overlay,
    confidence, probabilities: what is written beside the labels. format, tolerance: the labels as annotations, see
    `annotating`; "": none.
    long_side: the network sees larger images reduced to it, 0: as they are, None: as its training images were.
    world: one that is there, instead of one on `device`; its processes share the images, and each returns what all have
    done. note: is told in a line what is worth knowing. Raises DataError where there is nothing to predict, where two
    images would be written to one file, and where `out` cannot be written. An unreadable image is listed in `failed`.
    """
    with nullcontext(world) if world else sharing(device) as world:
        files = alike("list of images", lambda: find_images(images, out, note), _named, world)
        checkpoint = same_file(network_of(checkpoint), world)
        net, meta = load_network(checkpoint, world.device)
        take_threads(meta["config"].get("train.threads", 0), net, CPU_PIXELS, world.device)
        data = meta["data"]
        predictor = Predictor.of(net, meta, world.device, how)
        if long_side is not None:
            predictor = replace(predictor, long_side=long_side)
        output = Output(out, full_palette(data, note), overlay, confidence, probabilities)
        if world.main:
            output.begin(data)
        one_folder(out, world)
        failed, black = dict[str, str](), list[str]()
        said = {
            "network": digest(checkpoint), "how": how, "long_side": predictor.long_side, "palette": output.palette,
            "written": (overlay, confidence, probabilities),
        }  # fmt: skip
        with ExitStack() as stack:
            annotate = None
            if format and world.main:
                there = annotating(out / format, format, data["classes"], output.palette, tolerance)
                annotate = stack.enter_context(there)
            stack.enter_context(interruptible("predicting"))
            before = stack.enter_context(going_on(out, said))
            done = sum(told(_predict(files, predictor, data, output, before, failed, black, progress)))
            failed, black = dict(ChainMap(*told(failed))), list(chain(*told(black)))
            output.placed = sum(told(output.placed))
            if annotate:
                for id, path in files.items():
                    if id not in failed:
                        annotate(f"{id}{path.suffix}", path, read_index(out / LABELS / f"{id}.png"))
        if done:
            note(f"{done:,} of {counted(len(files), 'image')} done before")
        if black:
            low, high = levels_of(data)
            note(
                f"seen nearly black: {counted(len(black), 'photo')} of 16 bits, the first is {black[0]}: as in "
                f"training, their values {low} to {high} become 0 to 255"
            )
        return {
            "images": len(files) - len(failed),
            "failed": [failed[id] for id in files if id in failed],
            **output.places(),
            "annotations": str(out / format) if format else None,
            "classes": data["classes"],
            "checkpoint": str(checkpoint),
            "window": predictor.window,
            "long_side": predictor.long_side,
        }


def _predict(
    files: Mapping[str, Path], predictor: Predictor, data: Mapping[str, Any], output: Output,
    before: Before, failed: dict[str, str], black: list[str], progress: Progress,
) -> int:  # fmt: skip
    """Predict this process's images; how many of them were done before. failed, black: get what there is to tell."""
    mine = list(share_of(_blocks(files)))
    todo = [[(id, path) for id, path in block if not before.has(id, path)] for block in mine]
    skipped = sum(map(len, mine)) - sum(map(len, todo))
    if skipped:
        output.placed += sum((output.folder / GEOTIFF / f"{id}.tif").is_file() for block in mine for id, _ in block)
    with progress("predicting", sum(map(len, mine))) as advance:
        advance(skipped)

        def readable() -> Iterator[Photo]:
            for id, path, photo in _decoded(todo, predictor, levels_of(data)):
                if isinstance(photo, DataError):
                    failed[id] = f"{path}: {photo.why or photo.what}{photo.fix and f' ({photo.fix})'}"
                    advance()
                    continue
                if photo.image.max() < BLACK and is_deep(path):
                    black.append(str(path))
                yield photo

        def write(photo: Photo, prediction: Prediction) -> None:
            output.write(photo.id, photo.path, photo.image, prediction)
            before.add(photo.id, photo.path)
            advance()

        with beside(BEHIND) as put:
            for chunk in _chunks(readable()):
                for photo, prediction in _predicted(predictor, chunk, output.confidence or output.probabilities):
                    put(write, photo, prediction)
    return skipped


def _named(files: Mapping[str, Path]) -> dict[str, str]:
    """What two processes who look for images must both find."""
    names = "\n".join(files)
    return {"images": f"{len(files):,}", "sha256 of their names": hashlib.sha256(names.encode()).hexdigest()}


def _blocks(files: Mapping[str, Path]) -> Iterator[list[tuple[str, Path]]]:
    """The images in lists of BLOCK, of which each is one process's, and none shares a forward with another's."""
    items = iter(files.items())
    while block := list(islice(items, BLOCK)):
        yield block


def _decoded(
    blocks: Sequence[Sequence[tuple[str, Path]]], predictor: Predictor, levels: Levels
) -> Iterator[tuple[str, Path, Photo | DataError]]:
    """Every file with its image or what is wrong with it, in order; threads decode AHEAD of what is asked for."""
    waiting: deque[tuple[str, Path, Future[Photo | DataError]]] = deque()
    files = [(number, id, path) for number, block in enumerate(blocks) for id, path in block]
    with ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1)) as pool:
        for number, id, path in files:
            waiting.append((id, path, pool.submit(_open, id, path, predictor, levels, number)))
            if len(waiting) > AHEAD:
                first, where, photo = waiting.popleft()
                yield first, where, photo.result()
        while waiting:
            first, where, photo = waiting.popleft()
            yield first, where, photo.result()


def _open(id: str, path: Path, predictor: Predictor, levels: Levels, block: int) -> Photo | DataError:
    try:
        image = read_image(path, levels)
    except DataError as error:
        return error
    return Photo(id, path, image, predictor.seen(image), block)


def _chunks(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    """The photos of a block in lists of about CHUNK_PIXELS."""
    for _, block in groupby(photos, key=lambda photo: photo.block):
        chunk, pixels = list[Photo](), 0
        for photo in block:
            chunk.append(photo)
            pixels += _pixels(photo.image)
            if pixels >= CHUNK_PIXELS:
                yield chunk
                chunk, pixels = [], 0
        if chunk:
            yield chunk


def _predicted(
    predictor: Predictor, photos: Sequence[Photo], probabilities: bool
) -> Iterator[tuple[Photo, Prediction]]:
    """Every photo with what is predicted of it, at the size of its image."""
    by_id = {photo.id: photo for photo in photos}
    records = [Record(photo.id, photo.path, None, *photo.image.shape[:2]) for photo in photos]

    def seen(record: Record) -> tuple[Any, None]:
        return by_id[record.id].seen, None

    for part in predictions(predictor, records, load=seen, probabilities=probabilities):
        labels = part.label_BHW.cpu().numpy()
        confs = None if part.conf_BHW is None else part.conf_BHW.cpu().numpy()
        for place, record in enumerate(part.records):
            found = Prediction(labels[place])
            if confs is not None and part.probs_BKhw is not None:
                found = Prediction(labels[place], confs[place], part.probs_BKhw[place : place + 1])
            yield by_id[record.id], found


def _pixels(image: Array) -> int:
    return image.size // 3
