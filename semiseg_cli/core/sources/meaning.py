"""What the masks of a folder mean: decided once, from all of them and from what the user said; then one decoder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.errors import DataError, counted, few, verb
from semiseg_cli.core.sources import remedies
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import Code, LabelMap, code_name, colour_of
from semiseg_cli.core.sources.rasters import COLOURS, GREY, PALETTE, Raster
from semiseg_cli.core.sources.readings import COLOUR_ITSELF, INDEX, LEVEL, Reading, choose
from semiseg_cli.core.sources.survey import Pixel, Seen, together
from semiseg_cli.core.sources.told import LEAVE, NEAREST, REFUSE, Table, Told, check_ignored, tabulate


@dataclass(frozen=True)
class Meaning:
    """The one decoder of all masks; `said` tells in one line what was decided."""

    readings: Mapping[str, Reading]  # by the kind of the mask
    label_map: LabelMap
    said: str

    @property
    def key(self) -> str:
        """The same for decoders that are the same."""
        state = hashlib.sha256(self.label_map.known.tobytes() + self.label_map.value.tobytes())
        for kind, reading in sorted(self.readings.items()):
            state.update(repr((kind, reading.by, reading.opaque, reading.spare)).encode())
        return state.hexdigest()

    def __call__(self, raster: Raster, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """The classes of pixels of this mask, uint8 of their shape; `IGNORE` where they count nowhere."""
        every = np.arange(256, dtype=np.uint8) if pixels.dtype == np.uint8 else pixels
        reading = self.readings[raster.kind]
        codes = reading.codes(raster.values(every), raster.colours(every), raster.alpha(every))
        mask, strange = self.label_map(codes)
        if strange and (every is pixels or np.isin(codes[np.unique(pixels)], list(strange)).any()):
            raise DataError("a mask was changed while it was read", fix="the same command again")
        return mask if every is pixels else mask[pixels]


def decide(seen: Sequence[Seen], classes: Classes, told: Told) -> Meaning:
    """What these masks mean.

    Raises DataError where they contradict themselves or each other or hold what means nothing, UsageError where what
    was said contradicts itself.
    """
    table, found = tabulate(classes, told), together(seen)
    soft, opaque = _opacity(found, told)
    readings = {kind: choose(kind, pixels, seen, table, opaque) for kind, pixels in found.items()}
    if any(reading.by != COLOUR_ITSELF for reading in readings.values()):
        check_ignored(table)
    codes = [readings[each.kind].count(each.pixels) for each in seen]
    total = sum(codes, Counter[Code]())
    unknown = sorted(code for code in total if code not in table.targets)
    targets, near = dict(table.targets), dict[Code, tuple[int, float]]()
    if told.unknown == NEAREST and table.has_colours:
        colours = [code for code in unknown if colour_of(code)]
        near = dict(zip(colours, table.nearest(colours), strict=True))
        targets |= {code: target for code, (target, _) in near.items()}
    if told.unknown == LEAVE:
        targets |= dict.fromkeys(unknown, IGNORE)
    if soft and told.unknown == REFUSE:
        remedies.refuse_soft(soft)
    if left := [code for code in unknown if code not in targets]:
        remedies.refuse_codes(left, total, seen, codes, table)
    remedies.refuse_binary(codes, table)
    if any(reading.by != COLOUR_ITSELF for reading in readings.values()):
        remedies.refuse_no_zero(total, table)
    label_map = Table(classes, told, targets, table.ignored, table.assumed).label_map
    return Meaning(readings, label_map, _said(seen, readings, total, near, targets, table))


def _opacity(found: Mapping[str, Counter[Pixel]], told: Told) -> tuple[int, int]:
    """Pixels that are neither opaque nor transparent, and the alpha from which on a pixel counts as opaque.

    Where all that shows is equally opaque that is as good as opaque.
    """
    shown = Counter[int]()
    for kind in (COLOURS, GREY):
        for pixel, count in found.get(kind, {}).items():
            shown[pixel.alpha] += count
    del shown[0]
    if len(shown) < 2:
        return 0, 1
    most = max(shown)
    return shown.total() - shown[most], most if told.unknown == LEAVE else (most + 1) // 2


def _said(
    seen: Sequence[Seen],
    readings: Mapping[str, Reading],
    total: Counter[Code],
    near: Mapping[Code, tuple[int, float]],
    targets: Mapping[Code, int],
    table: Table,
) -> str:
    """What was decided, in one line."""
    words = {
        (GREY, INDEX): "grey by value", (COLOURS, INDEX): "RGB of greys by their level",
        (PALETTE, INDEX): "palette by index", (PALETTE, LEVEL): "palette by the grey of its colours",
        (PALETTE, COLOUR_ITSELF): "palette by colour, not by index", (COLOURS, COLOUR_ITSELF): "RGB by colour",
        (GREY, COLOUR_ITSELF): "grey by colour, not by value",
    }  # fmt: skip
    kinds = Counter(each.kind for each in seen)
    parts = ["masks: " + ", ".join(f"{n} {words[kind, readings[kind].by]}" for kind, n in sorted(kinds.items()))]
    values, names = table.values, table.classes.names
    by_value = any(reading.by != COLOUR_ITSELF for reading in readings.values()) and not table.told.map
    if by_value:
        parts[0] += f" ({values[0]} is '{names[0]}', {values[-1]} is '{names[-1]}')"
    nowhere = sorted(code for code in total if targets[code] == IGNORE and code not in near)
    if nowhere:
        named = few([code_name(code) for code in nowhere])
        parts.append(f"{remedies.percent(nowhere, total)} of the pixels count nowhere: {named}")
    if near:
        count, most = sum(total[code] for code in near), max(away for _, away in near.values())
        share = remedies.percent(near, total)
        parts.append(
            f"{counted(count, 'pixel')} ({share}) of other colours {verb(count, 'is', 'are')} taken as the nearest "
            f"class, at most {most:.0f} levels away"
        )
    if lossy := sum(each.lossy for each in seen):
        parts.append(
            f"{lossy} of the masks {verb(lossy, 'is', 'are')} lossy, such as JPEG: between two classes the "
            "nearest may be a third, so look at them, or export them as PNG"
        )
    unseen = set(range(len(names))) - {targets[code] for code in total}
    if table.assumed and IGNORE in nowhere and len(unseen) == 1:
        (lacking,) = unseen
        meant = f"--map {IGNORE}={lacking} if {IGNORE} stands for it"
        parts.append(f"of all classes '{names[lacking]}' alone is in none: {meant}")
    return "; ".join(parts)
