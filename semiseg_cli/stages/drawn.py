"""Annotations given as masks: drawn into index PNGs below the dataset that is being built, which are then its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.imaging import orientation, write_image
from semiseg_cli.core.data.photos import image_size
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, UsageError, counted, few, few_lines, verb
from semiseg_cli.core.sources.classes import Classes, read_classes
from semiseg_cli.core.sources.drawn import STORED
from semiseg_cli.core.sources.folder import Folders
from semiseg_cli.core.sources.polygons.drawing import EMPTY, MOST, Tally, draw, refuse_unknown
from semiseg_cli.core.sources.polygons.files import annotation_files, read_all
from semiseg_cli.core.sources.polygons.labels import background_of, counts_nowhere
from semiseg_cli.core.sources.polygons.matching import match, said_alone
from semiseg_cli.core.sources.polygons.shapes import Annotated, Found
from semiseg_cli.core.sources.told import LEAVE, REFUSE, Told
from semiseg_cli.stages.progress import Progress

FOLDER = "drawn"  # below the dataset, while it is built


@dataclass(frozen=True)
class Drawn:
    """Folders of masks in place of annotations, what their values mean, and what is worth a note."""

    folders: Folders
    classes: Classes
    told: Told
    notes: tuple[str, ...]


def is_annotated(folders: Folders) -> bool:
    """Whether annotations are given as masks."""
    return bool(annotation_files(folders.masks, folders.labeled))


def check_told(told: Told) -> None:
    """Raise UsageError for options that say how pixels of masks are read."""
    if replace(told, unknown=REFUSE, orientation="") != Told() or told.unknown not in (REFUSE, LEAVE):
        what = "--masks names annotations, and options say how pixels of masks are read"
        raise UsageError(what, fix="leave out --map, --ignore, --first, --mask-reading; --unknown ignore is possible")


def drawn(
    folder: Path, folders: Folders, file: Path | None, told: Told, progress: Progress, *, again: bool = False
) -> Drawn:
    """Draw the annotations of `folders` below `folder`. file: of the classes; None: as the annotations name them.

    again: for a dataset whose classes stay.

    Pixels in no shape belong to the class called background, which classes from annotations get if they lack it and
    there are such pixels; where a classes file has none they count nowhere. An image without a shape is not annotated.
    Raises DataError that lists what is wrong, UsageError where classes are missing.
    """
    check_told(told)
    pairs = [(folders.labeled, folders.masks, "masks")]
    if folders.val and folders.val_masks:
        pairs.append((folders.val, folders.val_masks, "val_masks"))
    read = [(images, masks, role, read_all(annotation_files(masks, images), masks)) for images, masks, role in pairs]
    given = read_classes(file) if file else None
    names = list(given.names) if given else _named([found for *_, found in read])
    if len(names) > MOST:
        raise DataError(f"the annotations have {len(names)} classes", why=f"{MOST} are possible")
    tally, notes = Tally(), list[str]()
    for images, masks, role, found in read:
        one, said = _draw_all(found, folders.files(images), masks, folder / FOLDER / role, names, told, progress)
        tally.add(one)
        notes += said
    if told.unknown != LEAVE:
        refuse_unknown(tally, names, again)
    notes += _said(tally)
    mapping, ground, values = dict[float, int](), background_of(names), tuple[int, ...]()
    share = f"{100 * tally.empty / max(tally.pixels, 1):.1f} % of their pixels lie in no shape"
    if ground is not None:
        mapping[EMPTY] = ground
        notes.append(f"{share}: '{names[ground]}'")
    elif given:
        mapping[EMPTY] = IGNORE
        lacking = f"for no class is called background; if they are one, a line of {file} names it so"
        notes.append(f"{share} and count nowhere, {lacking}")
    elif tally.empty:
        names, values = ["background", *names], (EMPTY, *range(len(names)))
        notes.append(f"{share}: class 0, 'background'; a classes file without it makes them count nowhere")
    classes = Classes(tuple(names), given.palette if given else (), IGNORE, given.licence if given else "", values)
    val_masks = folder / FOLDER / "val_masks" if folders.val_masks else None
    moved = replace(folders, masks=folder / FOLDER / "masks", val_masks=val_masks)
    how = Told(map=mapping, ignore=IGNORE, reading="index", orientation=told.orientation, first=None if values else 0)
    return Drawn(moved, classes, how, tuple(notes))


def _named(found: Sequence[Found]) -> list[str]:
    """The classes that annotations name."""
    every = Found("")
    for each in found:
        every.add(each)
    names = [name for name in every.classes if not counts_nowhere(name)]
    numbered = any(isinstance(shape.label, int) for each in found for image in each.images for shape in image.shapes)
    if numbered and not names:
        what = "YOLO's classes have numbers, and no data.yaml names them"
        raise UsageError(what, fix="--classes FILE, a name per line")
    if len(names) + (background_of(names) is None) < 2:
        fix = "label the shapes in the program that drew them, or --classes FILE, a class name per line"
        raise DataError("the annotations name no class", fix=fix)
    return names


def _draw_all(
    found: Found,
    photos: dict[str, Path],
    masks: Path,
    folder: Path,
    names: Sequence[str],
    told: Told,
    progress: Progress,
) -> tuple[Tally, list[str]]:
    """Write the label map of every photo that has shapes; what was met, and notes. DataError where sizes disagree."""
    matched, lone = match(found.images, photos)
    if not matched:
        what = f"no annotation in {masks} is named like an image"
        why = f"images: {few(photos) or 'none'}; annotations: {few(lone)}"
        raise DataError(what, why=why, fix="rename either")
    empty = [id for id, image in matched.items() if not image.shapes]
    tasks = [(id, image) for id, image in matched.items() if image.shapes]
    if not tasks:
        raise DataError(f"no image in {masks} that is there has a shape", fix="draw some, and export them again")
    with progress("drawing annotations", len(tasks)) as advance:

        def one(task: tuple[str, Annotated]) -> Tally | str:
            id, image = task
            try:
                size = _size(image, photos[id], told)
            except DataError as error:
                return str(error)
            if isinstance(size, str):
                return size
            try:
                mask, tally = draw(image, size, names)
            except ValueError as error:
                return f"{image.file}, {image.names[0]}: {error}"
            write_image(folder / f"{id}.png", mask)
            advance()
            return tally

        done = on_all_cores(one, tasks)
    if wrong := [each for each in done if isinstance(each, str)]:
        fix = "annotate each photo at its size, or bring the photos that were annotated"
        unfit = verb(len(wrong), "does not fit its photo", "do not fit their photos")
        raise DataError(f"{counted(len(wrong), 'annotation')} {unfit}", why=few_lines(wrong, 100), fix=fix)
    tally = Tally(left=found.left)
    for each in done:
        assert isinstance(each, Tally)
        tally.add(each)
    shapes = sum(len(image.shapes) for _, image in tasks)
    many = f"{counted(shapes, 'shape')} in {counted(len(tasks), 'image')}"
    notes = [f"masks are drawn from {found.format} annotations in {masks}: {many}"]
    if empty:
        no_shape = f"{counted(len(empty), 'image')} {verb(len(empty), 'has', 'have')} no shape"
        notes.append(f"{no_shape} and {verb(len(empty), 'counts', 'count')} as not yet annotated: {few(empty)}")
    if found.strange:
        notes.append(f"no annotations, not read: {few(found.strange)}")
    return tally, [*notes, *said_alone(lone, masks)]


def _size(image: Annotated, photo: Path, told: Told) -> tuple[int, int] | str:
    """The size at which an image is drawn: its own, if it is the photo's as stored or upright; else what is wrong."""
    stored = image_size(photo)
    upright = stored[::-1] if orientation(photo) >= 5 else stored
    if image.size is None:
        return stored if told.orientation == STORED else upright
    if image.size not in (stored, upright):
        there, here = (f"{width}x{height}" for height, width in (image.size, upright))
        return f"{photo} is {here}, its annotation in {image.file} {there}"
    return image.size


def _said(tally: Tally) -> list[str]:
    notes = []
    if tally.overlaps:
        notes.append(
            f"shapes of different classes overlap in {counted(tally.overlaps, 'image')}: the later in the file (of "
            "CVAT: the higher z-order) covers the earlier"
        )
    if tally.unknown:
        notes.append(f"labels of no class count nowhere: {', '.join(tally.unknown)}")
    if tally.left:
        parts = ", ".join(f"{count} {what}" for what, count in tally.left.most_common())
        notes.append(f"shapes that are not drawn: {parts}")
    return notes
