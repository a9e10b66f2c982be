"""What is said where masks hold what means nothing: how much, where, and options to paste that are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, counted, few, verb
from semiseg_cli.core.sources import mistaken
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import COLOUR, TRANSPARENT, Code, code_name, colour_of
from semiseg_cli.core.sources.survey import Seen
from semiseg_cli.core.sources.told import LEAVE, NEAREST, Table

FAR, MANY = 48, 0.1  # levels from the colour of a class; share of all pixels
PALETTE_FILE = (
    "say what the colours mean: --classes FILE.csv with a line name,r,g,b and one for each class, or FILE.json with "
    '{"names": [...], "palette": [[r, g, b], ...]}'
)


def refuse_codes(
    left: Sequence[Code],
    total: Counter[Code],
    seen: Sequence[Seen],
    codes: Sequence[Mapping[Code, int]],
    table: Table,
) -> None:
    """Raise the DataError of codes that mean nothing. codes: of each mask of `seen`, and `total` of all."""
    strange = {*left}
    files = [(each, [code for code in found if code in strange]) for each, found in zip(seen, codes, strict=True)]
    files = [(each, found) for each, found in files if found]
    most = sorted(left, key=lambda code: (-total[code], code))
    listed = few([_counted(code, total[code], table) for code in most], 12)
    share = f"{counted(sum(total[code] for code in left), 'pixel')} ({percent(left, total)})"
    alike: dict[str, list[Path]] = {}
    for each, found in files:
        alike.setdefault(few([code_name(code) for code in sorted(found)], 8), []).append(each.path)
    lines = [f"{few(paths, 3)}: {held}" for held, paths in alike.items()]
    lines = lines[:20] + [f"and {len(lines) - 20} more kinds of masks"] * (len(lines) > 20)
    what = "transparent pixels" if left == [TRANSPARENT] else f"values outside the {len(table.classes.names)} classes"
    if any(colour_of(code) for code in left) and table.has_colours:
        what = "colours of no class"
    raise DataError(
        f"{counted(len(files), 'file')}: masks have {what}, {share}",
        why="\n".join([listed, *lines]),
        fix=mistaken.photos(files, total) or _remedy(left, files, total, table),
    )


def _counted(code: Code, count: int, table: Table) -> str:
    near = ""
    if colour_of(code) and table.has_colours:
        target, away = table.nearest([code])[0]
        near = f", nearest: {class_name(target, table.classes)}, {away:.0f} levels away"
    return f"{code_name(code)} ({counted(count, 'pixel')}{near})"


def percent(codes: Collection[Code], total: Counter[Code]) -> str:
    """The share of these codes in all pixels."""
    share = 100 * sum(total[code] for code in codes) / max(total.total(), 1)
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _remedy(
    left: Sequence[Code], files: Sequence[tuple[Seen, Sequence[Code]]], total: Counter[Code], table: Table
) -> str:
    """What to add to the command, each kind of code for itself."""
    colours = [code for code in left if colour_of(code)]
    instances = mistaken.instances(left, files, table)
    values = [code for code in left if code not in colours and code not in instances and code != TRANSPARENT]
    found = [mistaken.of_instances(instances, table)] if instances else []
    if TRANSPARENT in left:
        found.append(_of_transparent(total, table))
    if colours and not table.has_colours:
        found.append(f"these are colour masks; {PALETTE_FILE}")
    elif colours:
        found.append(_of_colours(colours, total, table))
    if values:
        found.append(_of_values(values, sorted(code for code in total if not _is_other(code)), table))
    return "; and ".join(found)


def _of_transparent(total: Collection[Code], table: Table) -> str:
    """What transparent pixels may be; where all others are alike, these are the second of two classes."""
    names, shown = table.classes.names, [code for code in total if code != TRANSPARENT]
    ignoring = f"--map transparent={IGNORE} to ignore them"
    if len(names) == 2 and len(shown) == 1 and table.targets.get(shown[0]) != 1:
        maps = f"--map transparent=0 --map '{code_name(shown[0])}=1'"
        return f"{maps} if these pixels are '{names[0]}' and the others '{names[1]}'; {ignoring}"
    return f"--map transparent=0 if these pixels are '{names[0]}', {ignoring}"


def _of_colours(colours: Sequence[Code], total: Counter[Code], table: Table) -> str:
    """Smooth edges are few pixels, and what JPEG smears is near; many that are far are of other classes."""
    far = [code for code in colours if table.nearest([code])[0][1] > FAR]
    if sum(total[code] for code in far) <= MANY * total.total():
        return (
            f"--unknown {NEAREST} to take each colour as the nearest class, --unknown {LEAVE} to ignore these pixels, "
            f"or --map '{code_name(colours[0])}=CLASS' for one colour"
        )
    fix = f"add what they are to the classes file, or --unknown {LEAVE} to ignore these pixels"
    if len(far) > len(table.classes.names):
        fix += "; where each object has a colour of its own (CVAT's SegmentationObject), take the masks of classes"
    return fix


def _is_other(code: Code) -> bool:
    return colour_of(code) is not None or code == TRANSPARENT


def _of_values(left: Sequence[Code], seen: Sequence[Code], table: Table) -> str:
    """What most likely was meant by values outside the classes. seen: all values there are, sorted."""
    names = table.classes.names
    count = len(names)
    ignoring = _ignoring(left)
    if table.told.map or table.classes.values or table.told.first:
        return f"{ignoring}, or add what they are to the classes"
    classes = [code for code in seen if code != table.ignored]
    if count in left:
        zero = " (0 then counts nowhere; if it is a class, its name comes first in the classes file)" * (0 in seen)
        others = [code for code in left if code != count]
        more = f" with {_ignoring(others)}" if others else ""
        return f"--first 1{more} if the classes are counted from 1{zero}; {ignoring}"
    for values in (seen, classes):
        if len(values) == count and all(0 <= code < COLOUR and code == int(code) for code in values):
            maps = " ".join(f"--map {code_name(code)}={index}" for index, code in enumerate(values) if code != index)
            meant = f"this is class 1 ('{names[1]}')" if count == 2 else "these are the classes in this order"
            return f"{maps} if {meant}; {ignoring}"
    if count == 2 and len(left) > 8 and all(code in range(256) for code in seen):
        return f"--map 0-127=0 --map 128-255=1 if the masks are black and white with smooth edges; {ignoring}"
    return f"{ignoring}, or add their classes to the classes file"


def _ignoring(codes: Sequence[Code]) -> str:
    """Options that ignore these pixels."""
    if len(codes) > 8:
        return f"--unknown {LEAVE} to ignore these pixels"
    return " ".join(f"--map '{code_name(code)}={IGNORE}'" for code in codes) + " to ignore these pixels"


def refuse_soft(soft: int) -> None:
    """Raise the DataError of masks with soft edges in their alpha channel."""
    raise DataError(
        f"the masks have {counted(soft, 'pixel')} partly transparent",
        why="smooth edges: such a pixel is neither its colour nor what is behind it",
        fix=f"--unknown {NEAREST} to take them as their colour from half on, or --unknown {LEAVE} to ignore them; "
        "saving the masks without smooth edges is better",
    )


def refuse_binary(codes: Sequence[Mapping[Code, int]], table: Table) -> None:
    """Raise the DataError of two classes drawn as 0 and 255, where nobody said what 255 is.

    It is ignored otherwise: whole masks would be, as well where others are drawn as 0 and 1. A mask that shows class 1
    and 255 proves that these differ.
    """
    names = table.classes.names
    if len(names) != 2 or not table.assumed or table.targets.get(IGNORE) != IGNORE or IGNORE in table.told.map:
        return
    shown = [{table.targets.get(code, code) if code != IGNORE else "white" for code in found} for found in codes]
    if any({1, "white"} <= each for each in shown) or not (white := [each for each in shown if each >= {0, "white"}]):
        return
    others = sum(1 in each for each in shown)
    mixed = f", and in {counted(others, 'other')} class 1 is drawn as another value" if others else ""
    many = f"{counted(len(white), 'mask')} {verb(len(white), 'shows', 'show')}"
    raise DataError(
        f"{many} 0 and 255 alone{mixed}, and nobody said what 255 is",
        why="pixels of 255 count nowhere unless something else is said",
        fix=f"--map 255=1 if 255 stands for '{names[1]}', or --ignore 255 if it stands for no class",
    )


def refuse_no_zero(total: Collection[Code], table: Table) -> None:
    """Raise the DataError of masks that show 1 and never 0, where nobody said from where classes are counted.

    Counted from 1 with a class that no mask shows, and counted from 0 without its first class, look the same; taken for
    the other, every label is wrong.
    """
    names, told = table.classes.names, table.told
    if told.first is not None or told.map or table.classes.values or 0 in total or 1 not in total:
        return
    raise DataError(
        "no mask shows 0, and nobody said from where the classes are counted",
        why=f"1 is '{names[1]}' if they are counted from 0, and '{names[0]}' if from 1",
        fix=f"--first 0 if 1 is '{names[1]}', or --first 1 if 1 is '{names[0]}'",
    )


def class_name(target: int, classes: Classes) -> str:
    return "ignored" if target == IGNORE else f"'{classes.names[target]}'"
