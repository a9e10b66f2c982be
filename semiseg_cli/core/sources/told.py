"""What somebody says of their masks: the classes file and the options, made into what each code stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import Code, LabelMap, code_name, colour_code, colour_of

REFUSE, NEAREST, LEAVE = "refuse", "nearest", "ignore"  # what becomes of codes that mean nothing


@dataclass(frozen=True)
class Told:
    """The options of `prepare folder` about masks.

    map: code -> class, or 255 for pixels that count nowhere; it goes before all else. ignore: a value of such pixels;
    None: what the classes file says, else 255. first: the value of the first class, those below it count nowhere;
    None: 0. unknown: one of the above. reading: "index" or "colour", orientation: "stored" or "upright"; "": as the
    masks themselves tell.
    """

    map: Mapping[Code, int] = field(default_factory=dict)
    ignore: int | None = None
    first: int | None = None
    unknown: str = REFUSE
    reading: str = ""
    orientation: str = ""


@dataclass(frozen=True)
class Table:
    """What each code stands for: a class, or `IGNORE`."""

    classes: Classes
    told: Told
    targets: Mapping[Code, int]
    ignored: Code | None  # the value of pixels that count nowhere; None where 255 is a class and no other was named
    assumed: bool  # nobody said so

    @property
    def values(self) -> Sequence[int]:
        """The value of each class."""
        first = self.told.first or 0
        return self.classes.values or range(first, first + len(self.classes.names))

    @property
    def has_colours(self) -> bool:
        """Whether somebody said what colours mean."""
        return bool(self.classes.palette) or any(colour_of(code) for code in self.told.map)

    @property
    def label_map(self) -> LabelMap:
        known = sorted(self.targets)
        values = np.array([self.targets[code] for code in known], np.uint8)
        return LabelMap(np.array(known, np.float64), values, len(self.classes.names))

    def nearest(self, codes: Sequence[Code]) -> list[tuple[int, float]]:
        """The class, or `IGNORE`, of the known colour nearest to each of these colours, and how many levels it is away.

        Of equally near ones the first class counts.
        """
        known = sorted((target, code) for code, target in self.targets.items() if colour_of(code))
        colours = np.array([colour_of(code) for _, code in known], np.float64)
        found = []
        for code in codes:
            away = np.linalg.norm(colours - np.array(colour_of(code)), axis=1)
            found.append((known[int(away.argmin())][0], float(away.min())))
        return found


def tabulate(classes: Classes, told: Told) -> Table:
    """What the classes file and the options say. Raises UsageError where they contradict each other."""
    count, given = len(classes.names), told.ignore if told.ignore is not None else classes.ignore
    if classes.values and told.first is not None:
        what = f"--first {told.first}, and the classes file gives each class its value"
        raise UsageError(what, fix="leave out --first, or give a classes file with names alone")
    if told.ignore is not None and (target := told.map.get(told.ignore, IGNORE)) != IGNORE:
        what = f"--ignore {told.ignore} and --map {told.ignore}={target} contradict each other"
        raise UsageError(what, fix=f"leave one of them out; pixels that count nowhere are --map VALUE={IGNORE}")
    for code, target in told.map.items():
        if target not in (*range(count), IGNORE):
            fix = f"a class from 0 to {count - 1}, or {IGNORE} for pixels that count nowhere"
            raise UsageError(f"--map {code_name(code)}={target}: there is no class {target}", fix=fix)
    targets: dict[Code, int] = dict.fromkeys(range(told.first or 0), IGNORE)
    targets |= {value: index for index, value in enumerate(Table(classes, told, {}, None, True).values)}
    targets |= {colour_code(colour): index for index, colour in enumerate(classes.palette)}
    ignored = given if given is not None else IGNORE if IGNORE not in targets else None
    if ignored is not None:
        targets[ignored] = IGNORE
    return Table(classes, told, targets | dict(told.map), ignored, given is None)


def check_ignored(table: Table) -> None:
    """Raise the UsageError of an ignored value that is the only value of a class; said twice it is meant so."""
    told, classes = table.told, table.classes
    values = list(table.values)
    if table.ignored is None or table.ignored not in values:
        return
    index, value = values.index(int(table.ignored)), code_name(table.ignored)
    if index in told.map.values() or told.map.get(table.ignored) == IGNORE:
        return
    name = classes.names[index]
    said = f"--ignore {value}" if told.ignore is not None else f"ignore_index {value} of the classes file"
    meant = f"--map {value}={IGNORE} as well, if no pixel is to count as '{name}'"
    one = "--first 1 instead, if the classes are counted from 1 (0 then counts nowhere); "
    raise UsageError(
        f"{said} leaves no pixel to class {index}, '{name}', whose value it is",
        fix=f"{one if table.ignored == 0 and not classes.values else ''}{meant}",
    )
