"""Which files hold annotations and of which format, told by what stands in them; all that they say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.listing import leads_to, look_below
from semiseg_cli.core.data.names import decoded, read_lines
from semiseg_cli.core.errors import DataError, counted
from semiseg_cli.core.reading import TEXT, parse_json, read_bytes
from semiseg_cli.core.sources import mistaken
from semiseg_cli.core.sources.classes import parse_yaml
from semiseg_cli.core.sources.pairing import PHOTOS, parted
from semiseg_cli.core.sources.polygons import coco, cvat, labelme, labelstudio, yolo
from semiseg_cli.core.sources.polygons.matching import match
from semiseg_cli.core.sources.polygons.shapes import BOXES, UNFIT, Found, Shape, said

SUFFIXES = (".json", ".xml", ".txt", ".yaml", ".yml")
_MARKED, _YAML = (".json", ".xml"), (".yaml", ".yml")
_TRIED = 100  # text files of a folder in which shapes are looked for
_SORTED = ("LabelMe", "Label Studio")  # files without a list of classes


def annotation_files(masks: Path | None, images: Path | None) -> tuple[Path, ...]:
    """The files that may hold annotations where `masks` is one or holds some; none where image files are the masks.

    A folder's image files are masks unless all are photos or lie in `images`, or both lie together and are no pairs.
    """
    if masks is None:
        return ()
    if not masks.is_dir():
        if masks.suffix.lower() not in SUFFIXES or not masks.is_file():
            return ()
        return (masks, *(sorted(masks.parent.rglob("*.txt")) if masks.suffix.lower() in _YAML else ()))
    below, photos = look_below(masks).files, leads_to(images) if images else None
    if photos == leads_to(masks):
        try:
            parted(below, masks)
            return ()
        except DataError:
            pass
    elif photos and not leads_to(masks).is_relative_to(photos):  # an export with its photos, or links to them
        below = [path for path in below if not leads_to(path).is_relative_to(photos)]
    if photos != leads_to(masks) and any(path.suffix.lower() not in PHOTOS for path in below):
        return ()
    found = (path for path in masks.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    visible = sorted(p for p in found if not any(part[0] == "." for part in p.relative_to(masks).parts))
    texts = [path for path in visible if path.suffix.lower() == ".txt"]
    marked = any(path.suffix.lower() in _MARKED for path in visible)
    return tuple(visible) if marked or any(map(_has_outlines, texts[:_TRIED])) else ()


def read_all(files: Sequence[Path], masks: Path) -> Found:
    """What annotation files say together.

    Raises DataError for files that are none, broken ones, files of several formats, and where there is no shape.
    """
    below = masks if masks.is_dir() else masks.parent
    everything, wrong, strange = dict[str, Found](), list[str](), list[Path]()
    first, names = dict[str, Path](), list[str]()
    for path in files:
        try:
            found = _read(path, path.relative_to(below).as_posix(), names)
        except UNFIT as error:
            wrong.append(f"{path}: {said(error)}")
            continue
        if found:
            first.setdefault(found.format, path)
            everything.setdefault(found.format, Found(found.format)).add(found)
        elif path.suffix.lower() in _MARKED:
            strange.append(path)
    if wrong:
        raise _unusable(wrong)
    if len(everything) > 1 and not _shapes_in(everything.get("YOLO")):
        everything.pop("YOLO", None)  # empty text files say nothing
    if len(everything) > 1:
        why = "; ".join(f"{format}: {first[format]}" for format in everything)
        fix = (
            "sort them into a folder for each format and prepare each by itself, with the same --classes and a --name "
            "of its own: their masks are then in NAME/masks of the data root, and copied into one folder they are "
            "--masks of all"
        )
        raise DataError(f"{masks} holds annotations of several formats", why=why, fix=fix)
    if not everything:
        fix = mistaken.of_json(masks) or f"export {mistaken.FORMATS}"
        raise DataError(f"{masks} holds no annotations that are read", why=", ".join(map(str, files[:5])), fix=fix)
    (found,) = everything.values()
    found.strange = strange
    if found.format == "YOLO":
        found.classes = names or _named_beside(below)
        found.images = [yolo.named(image, found.classes) for image in found.images] if found.classes else found.images
    if found.format in _SORTED:
        found.classes.sort()
    if not any(shape.label is not None for shape in _shapes_in(found)):
        raise _no_outlines(found, masks)
    return found


def labels_of(photos: Collection[str], folders: Collection[Path]) -> dict[Path, list[str]]:
    """The annotation files below these folders that have shapes of these photos, with the ids of those.

    photos: ids. What cannot be read is passed over: it is told as a file of its kind.
    """
    found = dict[Path, list[str]]()
    for folder in {leads_to(each): each for each in folders}.values():
        for path in sorted(each for each in folder.rglob("[!.]*") if each.suffix.lower() in _MARKED and each.is_file()):
            try:
                read = _read(path, path.relative_to(folder).as_posix(), [])
                matched, _ = match(read.images, photos) if read else ({}, [])
            except (*UNFIT, DataError):
                continue
            if ids := [id for id, image in matched.items() if image.shapes]:
                found[path] = ids
    return found


def _shapes_in(found: Found | None) -> list[Shape]:
    return [shape for image in found.images for shape in image.shapes] if found else []


def _read(path: Path, name: str, names: list[str]) -> Found | None:
    """What a file says; None where it is of no known format. names: gets the classes of a `data.yaml`."""
    suffix = path.suffix.lower()
    if suffix in _YAML:
        names += [each for each in _yaml_names(path) if each not in names]
        return None
    if suffix == ".xml":
        return cvat.read(path, cvat.parsed(read_bytes(path, TEXT)), name)
    text = decoded(read_bytes(path, 1 << 31))
    if suffix == ".txt":
        return yolo.read(path, text, name) if yolo.is_one(text) else None
    table: Any = parse_json(text)
    if isinstance(table, dict) and {"images", "annotations"} <= table.keys():
        return coco.read(path, table, name)
    if isinstance(table, dict) and "shapes" in table:
        return labelme.read(path, table, name)
    return labelstudio.read(path, table, name) if labelstudio.is_one(table) else None


def _has_outlines(path: Path) -> bool:
    text = decoded(read_bytes(path, TEXT))
    return bool(text.strip()) and yolo.is_one(text)


def _yaml_names(path: Path) -> list[str]:
    return yolo.names_in(parse_yaml(decoded(read_bytes(path, 1 << 16))))


def _named_beside(folder: Path) -> list[str]:
    """Names of YOLO's classes from the nearest file of them, in a folder or the two above; empty for none."""
    folders, names = (folder, *list(folder.absolute().parents)[:2]), ("data.yaml", "classes.txt", "obj.names")
    file = next((place / name for place in folders for name in names if (place / name).is_file()), None)
    try:
        return [] if file is None else _yaml_names(file) if file.suffix == ".yaml" else read_lines(file)
    except (OSError, ValueError) as error:
        raise _unusable([f"{file}: {error}"]) from error


def _no_outlines(found: Found, masks: Path) -> DataError:
    why = "; ".join(f"{count} {what}" for what, count in found.left.items())
    why = why or f"{counted(len(found.images), 'image')}, and no shape in any"
    if found.left[BOXES]:
        fix = "draw outlines and export these: polygons or masks (segmentation), not boxes (detection)"
        return DataError(f"{masks} holds boxes of {found.format}, and no outlines", why=why, fix=fix)
    return DataError(f"{masks} holds no outlines", why=why, fix="draw outlines, and export them again")


def _unusable(wrong: Sequence[str]) -> DataError:
    what = f"{counted(len(wrong), 'annotation file')} cannot be used"
    return DataError(what, why="\n".join(wrong[:100]), fix="mend them, or export them again")
