"""What becomes of somebody's images once they are copied: which are trained on, held out, or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg_cli.core.data.names import draw_key, images
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, counted, few, few_lines
from semiseg_cli.core.sources.copies import Copy, Refusal

_PARTS = {"val", "valid", "validation", "test", "testing"}
HELD_OUT = 5  # one labeled image of five is held out where no validation images are given


@dataclass(frozen=True)
class Arrangement:
    """What becomes of the copies: `dropped` pool images are left out."""

    train: tuple[Record, ...]
    val: tuple[Record, ...]
    dropped: tuple[Record, ...]
    notes: tuple[str, ...]


def arrange(
    labeled: Sequence[Copy], pool: Sequence[Copy], val: Sequence[Copy], held: Collection[str] | None = None
) -> Arrangement:
    """Hold out a fifth of the labeled images if there are no others to validate on; keep equal pictures together.

    A picture that is labeled for training and for validation is a DataError; one of the pool that is labeled or held
    out as well is left out of the pool. held: ids of the validation images as they were and are to stay.
    """
    notes, dropped = list[str](), list[Record]()
    if held is not None:
        labeled, val, dropped, notes = _held_as_before(labeled, val, held)
    elif val:
        both = {copy.digest: copy.record.id for copy in labeled}
        pairs = [f"{both[copy.digest]} = {copy.record.id}" for copy in val if copy.digest in both]
        if pairs:
            what = f"--labeled and --val share pictures: {len(pairs)}"
            fix = "remove them from one of the two: they flatter the result"
            raise DataError(what, why="\n".join(pairs[:100]), fix=fix)
    else:
        labeled, val = _hold_out(labeled)
        ids = [copy.record.id for copy in val]
        total = len(labeled) + len(val)
        notes.append(f"{len(ids)} of {total} labeled images held out for validation (no --val): {few(ids)}")
        notes += _parts(copy.record.id for copy in (*labeled, *val))
    known = {copy.digest for copy in (*labeled, *val)}
    if twice := [copy.record for copy in pool if copy.digest in known]:
        dropped += twice
        ids = [record.id for record in twice]
        notes.append(f"{images(ids)} of the pool left out: equal to a labeled or validation image: {few(ids)}")
    kept = [copy.record for copy in pool if copy.digest not in known]
    train = (*(copy.record for copy in labeled), *kept)
    return Arrangement(train, tuple(copy.record for copy in val), tuple(dropped), tuple(notes))


def _parts(ids: Iterable[str]) -> list[str]:
    """A note where some labeled images, and not all, lie in a folder called val or test, to which nothing is due."""
    folders = [{*id.lower().split("/")[:-1]} & _PARTS for id in ids]
    found = Counter(name for names in folders for name in sorted(names))
    if not found or all(folders):
        return []
    which = " and ".join(f"{counted(count, 'labeled image')} in folders called {name}" for name, count in found.items())
    return [f"{which}, taken like all others: to keep them apart, --val DIR --val-masks DIR, and --labeled of the rest"]


def _held_as_before(
    labeled: Sequence[Copy], val: Sequence[Copy], held: Collection[str]
) -> tuple[list[Copy], list[Copy], list[Record], list[str]]:
    """Labeled and validation images, the latter being those of before that are still there; what is left out; notes."""
    stays = [copy for copy in (*labeled, *val) if copy.record.id in held]
    if not stays:
        what = "none of the validation images is there any more"
        raise DataError(what, fix="bring them back, or prepare a new dataset: --name NAME")
    pictures, notes = {copy.digest for copy in stays}, list[str]()
    same = [copy.record for copy in labeled if copy.digest in pictures and copy.record.id not in held]
    late = [copy.record for copy in val if copy.record.id not in held]
    if same:
        ids = [record.id for record in same]
        notes.append(f"{images(ids)} with a mask left out: equal to a validation image: {few(ids)}")
    if late:
        ids = [record.id for record in late]
        notes.append(f"{images(ids)} of --val left out, since the validation set stays: {few(ids)}")
    out = {record.id for record in (*same, *late)} | set(held)
    return [copy for copy in labeled if copy.record.id not in out], stays, [*same, *late], notes


def _hold_out(copies: Sequence[Copy]) -> tuple[list[Copy], list[Copy]]:
    """What stays, and what is held out: drawn picture by picture, in an order that only depends on the ids."""
    count = max(1, round(len(copies) / HELD_OUT))
    times = Counter(copy.digest for copy in copies)
    pictures: set[bytes] = set()
    for copy in sorted(copies, key=lambda copy: draw_key(0, copy.record.id)):
        if sum(times[picture] for picture in pictures) < count:
            pictures.add(copy.digest)
    stays = [copy for copy in copies if copy.digest not in pictures]
    if not stays:
        raise DataError(
            "one labeled image cannot serve for training and for validation",
            fix="label another one, or give --val and --val-masks",
        )
    return stays, [copy for copy in copies if copy.digest in pictures]


def usable(pool: Sequence[Copy | Refusal], asked: Sequence[Path]) -> tuple[list[Copy], list[str]]:
    """The pool without images that cannot be read, as some cannot in every large one, and a note that names them.

    asked: the folders of unlabeled images; DataError where there are some, and none of the images can be read.
    """
    bad = [each for each in pool if isinstance(each, Refusal)]
    if bad and len(bad) == len(pool) and asked:
        what = f"none of {counted(len(pool), 'unlabeled image')} can be read"
        fix = f"look at {', '.join(map(str, asked))}"
        raise DataError(what, why=few_lines([each.text for each in bad]), fix=fix)
    note = f"{images(bad)} without a label cannot be read and {'is' if len(bad) == 1 else 'are'} left out: "
    kept = [each for each in pool if isinstance(each, Copy)]
    return kept, [note + "; ".join(each.text for each in bad[:20]) + "; ..." * (len(bad) > 20)] if bad else []


def coverage(
    train: Iterable[Record], val: Iterable[Record], classes: Sequence[str], *, annotated: bool = False
) -> list[str]:
    """Notes on classes that have no pixel. Raises DataError where all labeled pixels are of one class.

    annotated: the masks are drawn from annotations.
    """
    notes = []
    for part, records in (("labeled", train), ("validation", val)):
        counts = [sum(column) for column in zip(*(record.pixels for record in records if record.mask), strict=True)]
        absent = [name for name, count in zip(classes, counts, strict=True) if not count]
        if part == "labeled" and len(absent) >= len(classes) - 1:
            there = "nothing" if len(absent) == len(classes) else next(name for name in classes if name not in absent)
            fix = f"--map 255=1 if 255 stands for '{classes[1]}'; else look at the values in the masks"
            if annotated:
                fix = "a class called background in the classes file, which takes what lies in no shape"
            raise DataError(
                f"the labeled pixels are {there if there == 'nothing' else repr(there)} and ignored ones only",
                why=f"no pixel of {few(absent)}{_of(absent, classes)}",
                fix=fix,
            )
        if absent:
            notes.append(f"no pixel in the {part} images: {few(absent)}{_of(absent, classes)}")
    return notes


def _of(absent: Collection[str], classes: Collection[str]) -> str:
    return f" ({len(absent)} of {len(classes)} classes)" if len(absent) > 5 else ""
