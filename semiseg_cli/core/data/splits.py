"""Partitions: which training images count as labeled. Every partition has a fingerprint, so that results compare.

An own partition is a function of the image ids, the classes in their masks, the count, the seed and the balance; it
does not depend on the order of files, the machine, or the version of a random generator. Images are drawn in the
order of sha256(seed, id), and a larger partition of the same seed contains the smaller one.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from semiseg_cli.core.data.spec import Dataset, Partition, Record
from semiseg_cli.core.errors import DataError, UsageError

_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp|ppm|pgm|gif|mat)$", re.IGNORECASE)
_CITYSCAPES = re.compile(r"_(leftImg8bit|gtFine_\w+)$")


def stem_of(line: str) -> str:
    """The image stem a line of a list stands for: an id, an image path, or the field's `image_path mask_path`.

    >>> stem_of("leftImg8bit/train/ulm/ulm_000009_000019_leftImg8bit.png gtFine/train/ulm/x.png")
    'ulm_000009_000019'
    """
    words = line.split()
    image = words[0] if len(words) == 2 and _SUFFIX.search(words[0]) else line.strip()
    return _CITYSCAPES.sub("", _SUFFIX.sub("", PurePosixPath(image.replace("\\", "/")).name))


def fingerprint(ids: Iterable[str]) -> str:
    """sha256 of the sorted unique image stems, joined by newline; of the ids where two of them share a stem."""
    unique = set(ids)
    stems = {stem_of(id) for id in unique}
    names = stems if len(stems) == len(unique) else unique
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def resolve_partition(dataset: Dataset, labeled: str, *, balance: str = "classes", seed: int = 0) -> Partition:
    """The partition that a user's words mean.

    labeled: "" (every image with a mask), a count "183", a fraction "1/8" of the images with a mask (to the nearest,
        at least one), a list file, a folder with `labeled.txt`, or the name of one below `<dataset>/splits`.
    balance: "classes" or "random", for a count or a fraction.
    Every other training image is unlabeled. Raises UsageError for words without a meaning and DataError for lists and
    counts that do not fit.
    """
    pool = dataset.labeled
    if not pool:
        raise DataError(f"dataset '{dataset.name}' has no labeled image", fix="semiseg prepare folder --help")
    count = _count(labeled, len(pool))
    if count is None:
        chosen, name = _from_list(dataset, labeled)
    elif count > len(pool):
        what = f"{count} labeled images asked for, dataset '{dataset.name}' has {len(pool)}"
        raise DataError(what, fix=f"--labeled {len(pool)} or fewer")
    elif count == len(pool):
        chosen, name = {record.id for record in pool}, f"all {count} labeled images"
    else:
        chosen = set(choose(pool, len(dataset.classes), count, balance=balance, seed=seed))
        name = f"own partition, seed {seed}, {count} of {len(pool)} ({balance})"
    return Partition(
        name=name,
        labeled=tuple(record for record in dataset.train if record.id in chosen),
        unlabeled=tuple(replace(record, mask=None, pixels=()) for record in dataset.train if record.id not in chosen),
        fingerprint=fingerprint(chosen),
    )


def choose(records: Sequence[Record], classes: int, count: int, *, balance: str, seed: int) -> list[str]:
    """Ids of `count` labeled records, in the order in which they were drawn.

    "random" takes the first in the order of sha256(seed, id). "classes" is greedy: take the class that the fewest
    chosen images contain (a tie goes to the class that fewer images of the dataset contain, then by seed), and of the
    images left the first in that order which contains it. With at least as many images as classes, every class that
    occurs is covered.
    """
    order = sorted(records, key=lambda record: draw_key(seed, record.id))
    if balance == "random":
        return [record.id for record in order[:count]]
    if balance != "classes":
        raise UsageError(f"no balance '{balance}'", fix="--balance classes or --balance random")
    has = np.array([np.array(class_pixels(record, classes)) > 0 for record in order])  # images x classes
    total, ties = has.sum(0), [draw_key(seed, f"class {k}") for k in range(classes)]
    chosen = np.zeros(len(order), dtype=bool)
    picks: list[int] = []
    while len(picks) < count:
        seen, left = has[chosen].sum(0), ~chosen
        usable = [k for k in range(classes) if has[left, k].any()]
        rarest = min(usable, key=lambda k: (seen[k], total[k], ties[k]), default=None)
        pick = int(np.argmax(left if rarest is None else left & has[:, rarest]))
        chosen[pick] = True
        picks.append(pick)
    return [order[pick].id for pick in picks]


def class_pixels(record: Record, classes: int) -> tuple[int, ...]:
    """Pixels of every class in a labeled record: as counted by `prepare`, else counted from its (index PNG) mask."""
    if record.pixels:
        return record.pixels
    assert record.mask is not None
    with Image.open(record.mask) as mask:
        return tuple(np.bincount(np.array(mask).ravel(), minlength=256)[:classes].tolist())


def draw_key(seed: int, key: str) -> bytes:
    """What images are sorted by where they are drawn at random."""
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()


def _count(labeled: str, available: int) -> int | None:
    """How many images a count or a fraction means; None for anything else."""
    if not labeled:
        return available
    if re.fullmatch(r"\d+", labeled):
        count = int(labeled)
    elif match := re.fullmatch(r"(\d+)/(\d+)", labeled):
        part, whole = int(match[1]), int(match[2])
        if not 0 < part <= whole:
            raise UsageError(f"'{labeled}' is not a fraction of the labeled images", fix="for example 1/8")
        count = max(1, (2 * part * available + whole) // (2 * whole))
    else:
        return None
    if count == 0:
        raise UsageError("0 labeled images asked for", why="every method needs at least one", fix="for example 1/8")
    return count


def _from_list(dataset: Dataset, words: str) -> tuple[set[str], str]:
    for path in (Path(words), dataset.root / "splits" / words):
        file = path / "labeled.txt" if path.is_dir() else path
        if file.is_file():
            break
    else:
        raise UsageError(
            f"'{words}' is neither a count, a fraction, nor a list of labeled images",
            why="no such file, and no folder of that name with a labeled.txt",
            fix="--labeled 23, 1/8, or FILE with an image id per line",
        )
    chosen = read_list(file, dataset.labeled)
    return chosen, f"list {file}, {len(chosen)} of {len(dataset.labeled)}"


def read_list(file: Path, records: Sequence[Record]) -> set[str]:
    """Ids of the records that a list file names: an id, or a path with the same stem, per line.

    Raises DataError for lines that name no record or several, and for an empty list; warns about repeated lines.
    """
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ids = {record.id for record in records}
    by_stem: dict[str, list[str]] = {}
    for id in ids:
        by_stem.setdefault(stem_of(id), []).append(id)
    found = [[line] if line in ids else by_stem.get(stem_of(line), []) for line in lines]
    unclear = [line for line, matches in zip(lines, found, strict=True) if len(matches) != 1]
    if unclear or not lines:
        raise DataError(
            f"{len(unclear)} of {len(lines)} lines of {file} name no labeled image of the dataset, or more than one",
            why=", ".join(unclear[:5]) + (", ..." if len(unclear) > 5 else "") if unclear else "the list is empty",
            fix="one image id per line, as in index.tsv",
        )
    chosen = {match[0] for match in found}
    if len(chosen) < len(lines):
        warnings.warn(f"{file} names {len(lines) - len(chosen)} images more than once", stacklevel=2)
    return chosen
