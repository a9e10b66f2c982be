"""Which photo an annotated image is: by the end of its path, as much of it as there is, without the suffix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from unicodedata import normalize

from semiseg_cli.core.data.listing import suffixes
from semiseg_cli.core.errors import DataError, counted, few, verb
from semiseg_cli.core.sources.polygons.shapes import Annotated

Tail = tuple[str, ...]


def match(images: Iterable[Annotated], photos: Iterable[str]) -> tuple[dict[str, Annotated], list[str]]:
    """Annotated images by the ids of their photos, and the names of those that have none.

    Where two name one photo the one counts that agrees with more of its path. Raises DataError where they agree alike,
    and where a name fits several photos.
    """
    ends = dict[Tail, list[str]]()
    for id in photos:
        parts = tuple(id.split("/"))
        for begin in range(len(parts)):
            ends.setdefault(parts[begin:], []).append(id)
    best, lone = dict[str, tuple[int, Annotated]](), list[str]()
    for image in images:
        length, found = next((hit for name in image.names if (hit := _longest(name, ends))[1]), (0, []))
        if not found:
            lone.append(image.names[0])
        elif len(found) > 1:
            why = f"it may be {' or '.join(found[:3])}"
            raise DataError(
                f"{image.file} annotates {image.names[0]}, which fits several photos", why=why, fix="name them apart"
            )
        elif found[0] not in best or best[found[0]][0] < length:
            if found[0] in best:
                lone.append(best[found[0]][1].names[0])
            best[found[0]] = (length, image)
        elif best[found[0]][0] == length:
            files = dict.fromkeys((str(best[found[0]][1].file), str(image.file)))
            raise DataError(f"{found[0]} is annotated twice", why=" and ".join(files), fix="remove one of them")
        else:
            lone.append(image.names[0])
    return {id: image for id, (_, image) in best.items()}, lone


def said_alone(lone: list[str], masks: object) -> list[str]:
    if not lone:
        return []
    many = f"{counted(len(lone), 'annotated image')} of {masks} {verb(len(lone), 'has', 'have')} no photo"
    return [f"{many}: {few(lone)}"]


def _longest(name: str, ends: Mapping[Tail, list[str]]) -> tuple[int, list[str]]:
    """The photos that agree with most of a name's end, and with how many of its parts."""
    parts = [part for part in normalize("NFC", name).split("/") if part not in ("", ".", "..")]
    last = parts[-1] if parts else ""
    cut = last.rfind(".")
    endings = [last[:cut], last] if cut > 0 and last[cut:].lower() in suffixes() else [last]
    for ending in endings:
        whole = (*parts[:-1], ending)
        for begin in range(len(whole)):
            if found := ends.get(whole[begin:]):
                return len(whole) - begin, found
    return 0, []
