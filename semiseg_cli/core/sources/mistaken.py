"""What is given as masks and is something else: told as what it is, with what makes masks of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import did_you_mean, few
from semiseg_cli.core.reading import read_json
from semiseg_cli.core.sources.codes import TRANSPARENT, Code, colour_of
from semiseg_cli.core.sources.survey import Seen
from semiseg_cli.core.sources.told import Table

FORMATS = "COCO, LabelMe, CVAT for images 1.1, YOLO polygons, Label Studio"  # of annotations
_CITYSCAPES = re.compile(r"_gt(Fine|Coarse)_(color|instanceIds|labelIds|labelTrainIds|instanceTrainIds|polygons)$")
_INSTANCES = 1000  # Cityscapes' instanceIds are class * 1000 + number
_NO_DATA = (9999, 32767, 65534, 65535)
_MANY = 64  # colours in one mask
_PHOTO = 0.1  # different colours a pixel, of a photo


def no_folder(place: Path) -> str:
    """What to do where this is given as a folder of images or masks, and is none."""
    if not place.exists():
        for other in (place.expanduser(), Path(str(place).replace("\\", "/"))):  # a shell knows ~ where a word begins
            if other.is_dir():
                return f"name it as {shlex.quote(str(other))}"
        near = [path.name for path in place.parent.iterdir() if path.is_dir()] if place.parent.is_dir() else []
        return f"{did_you_mean(place.name, near)}" if near else "name one that is there"
    new, old = (shlex.quote(str(each)) for each in (place.with_suffix(""), place))
    if place.suffix.lower() == ".zip":
        return f"unpack it: unzip {old} -d {new}"
    if re.search(r"\.(tar|tgz|tar\.\w+)$", place.name, re.IGNORECASE):
        return f"unpack it: mkdir -p {new} && tar -xf {old} -C {new}"
    return of_json(place) if place.suffix.lower() == ".json" else f"name the folder: {place.parent}"


def of_json(masks: Path) -> str:
    """What to do where annotations lie in place of masks; empty where there are none."""
    there = masks if masks.suffix.lower() == ".json" else next(masks.rglob("[!.]*.json"), None)
    if not there:
        return ""
    if _CITYSCAPES.search(there.stem) or _has_keys(there, {"imgHeight", "imgWidth", "objects"}):
        return (
            f"{there} holds polygons in Cityscapes' form, and no pixels: the masks are x_gtFine_labelIds.png, which "
            "come with them; or draw them: pip install cityscapesscripts && "
            f"CITYSCAPES_DATASET={shlex.quote(str(_tree(masks)))} csCreateTrainIdLabelImgs"
        )
    return (
        f"{there} holds no pixels: annotations are read as {FORMATS} (V7, Supervisely and VIA write COCO), in a folder "
        "without image files; or export them as PNG masks"
    )


def _has_keys(file: Path, keys: Collection[str]) -> bool:
    try:
        found: dict[str, Any] = read_json(file, dict[str, Any])
    except (OSError, ValueError):
        return False
    return set(keys) <= found.keys()


def _tree(masks: Path) -> Path:
    """The folder in which `gtFine` lies, where it is above the masks."""
    above = [path.parent for path in (masks, *masks.parents) if re.fullmatch("gt(Fine|Coarse)", path.name)]
    return above[0] if above else masks


def cityscapes(masks: Collection[str], folder: Path) -> str:
    """What to do where Cityscapes' files of several kinds are given as masks, by id; empty for others."""
    kinds = {found[2] for id in masks if (found := _CITYSCAPES.search(id))}
    if len(kinds) < 2:
        return ""
    new = shlex.quote(str(folder.with_name(f"{folder.name}-labelIds")))
    line = f"find {shlex.quote(str(folder))} -name '*_labelIds.png' -exec cp {{}} {new} \\;"
    return (
        f"these are Cityscapes' files, of which one kind counts: mkdir {new} && {line} and --masks {new}; "
        f"for all of Cityscapes: {command('prepare', 'cityscapes')} --source DIR"
    )


def labelme_folders(masks: Collection[str]) -> str:
    """What to do where folders of `labelme_export_json` are given as masks, by id; empty for others."""
    if not any(re.search(r"_json/label$", id) for id in masks):
        return ""
    return "these are folders of labelme_export_json: give LabelMe's JSON files themselves as --masks, which are read"


def instances(left: Sequence[Code], files: Sequence[tuple[Seen, Sequence[Code]]], table: Table) -> tuple[Code, ...]:
    """Those of these values that are instance ids as of Cityscapes; `files` are masks with their strange values."""
    large = tuple(code for code in left if _INSTANCES <= code < 256 * _INSTANCES and code == int(code))
    if any("instanceId" in each.path.stem for each, found in files if set(found) & set(large)):
        return large
    whole = len(large) > 1 and not set(large) & set(_NO_DATA)
    return large if whole and all(table.targets.get(code // _INSTANCES, IGNORE) != IGNORE for code in large) else ()


def of_instances(codes: Sequence[Code], table: Table) -> str:
    """What to add to the command for instance ids."""
    maps = dict.fromkeys(int(code) // _INSTANCES for code in sorted(codes))
    words = " ".join(
        f"--map {kind * _INSTANCES}-{kind * _INSTANCES + _INSTANCES - 1}={table.targets.get(kind, IGNORE)}"
        for kind in maps
    )
    return (
        f"values from {_INSTANCES} on are instance ids, class * {_INSTANCES} + number, as of Cityscapes' instanceIds: "
        f"{words} takes the class of each, and so do the labelIds files in their place"
    )


def photos(files: Sequence[tuple[Seen, Sequence[Code]]], folder: Mapping[Code, int]) -> str:
    """What to say where files with strange colours are photos; empty where none is. folder: pixels of all by code."""
    many = [each for each, found in files if _is_photo(each, found)]
    if not many:
        return ""
    if TRANSPARENT in folder:
        place, new = many[0].path.parent, many[0].path.parent.with_name("masks-alpha")
        line = f"mkdir {shlex.quote(str(new))} && magick mogrify -path {shlex.quote(str(new))} -alpha extract"
        return (
            f"{len(many)} of these files are cut-out photos; what they show as a mask: {line} "
            f"{shlex.quote(str(place))}/*.png and --masks {shlex.quote(str(new))} --map 255=1"
        )
    names = few([each.path for each in many], 3)
    return f"{len(many)} of these files look like photos and no masks, {names}: take them out of the folder of masks"


def _is_photo(seen: Seen, strange: Sequence[Code]) -> bool:
    colours = [code for code in strange if colour_of(code)]
    shown = sum(count for pixel, count in seen.pixels.items() if pixel.alpha)
    return len(colours) > max(_MANY, _PHOTO * shown)
