"""Published partitions: imported from the field's layout, or fetched from where they were published.

An imported list lies in `<dataset>/splits/<protocol>/<name>/` if its fingerprint is known, else in
`<dataset>/splits/imported/<folder>/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import preparing
from semiseg_cli.core.data.index import load_dataset, prepared
from semiseg_cli.core.data.names import fingerprint, read_lines, stem_of
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import DataError, UsageError, counted, did_you_mean
from semiseg_cli.core.files import write_bytes
from semiseg_cli.core.models.published import cache_folder
from semiseg_cli.core.partitions.protocols import Published, Repository, recognise, repositories
from semiseg_cli.core.partitions.splits import from_lists
from semiseg_cli.core.web import ask, body
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.split import write_list

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Imported:
    """A list that has been imported: `words` name it for --labeled."""

    data: str
    words: str
    partition: Partition
    source: Path


@dataclass(frozen=True)
class Outcome:
    """What was imported, and a line for every list that was left aside, with the reason."""

    imported: tuple[Imported, ...]
    left: tuple[str, ...]


def import_lists(root: Path, source: Path, data: str = "") -> Outcome:
    """Import every `labeled.txt` (with its `unlabeled.txt`) of a folder and those below it.

    data: the dataset; otherwise a recognised list goes to the dataset of its kind, another to the one that has its
    images. Of several lists those that do not fit are left aside. Raises DataError where none is imported.
    """
    found = [source] if (source / "labeled.txt").is_file() else sorted(p.parent for p in source.rglob("labeled.txt"))
    if not found:
        why = "" if source.is_dir() else "there is no such folder"
        line = command("split", "--import", "DIR", root=root)
        raise DataError(f"no labeled.txt in {source} or below it", why=why, fix=line)
    return _import_all(root, found, [load_dataset(root, name) for name in ([data] if data else prepared(root))])


def _import_all(root: Path, folders: Sequence[Path], datasets: Sequence[Dataset]) -> Outcome:
    imported, left = list[Imported](), list[DataError]()
    for folder in folders:
        try:
            imported.append(_import(root, folder, datasets))
        except DataError as error:
            left.append(error)
    if len(folders) == 1 and left:
        raise left[0]
    if not imported:
        why = "\n".join(dict.fromkeys(f"{error.what}: {error.why}" for error in left[:5]))
        raise DataError(f"none of {len(left)} lists fits a prepared dataset", why=why, fix=left[0].fix)
    return Outcome(tuple(imported), tuple(f"{error.what} ({error.why})" for error in left))


def fetch_lists(
    root: Path,
    word: str,
    data: str = "",
    *,
    url: str = "",
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Outcome:
    """Download the lists of a public code base that a prepared dataset can use, and import them.

    url: the address of a copy, in place of the repository's own. note: is told what comes from where. The files are
    kept in the cache; what is there with the right sha256 is not fetched again. Raises UsageError for a code base
    nobody knows, DataError without a dataset that could use its lists, and where an address does not answer or gives
    another file than was published.
    """
    if word not in repositories():
        raise UsageError(f"there is no '{word}' to fetch", fix=did_you_mean(word, repositories()))
    repository = repositories()[word]
    datasets = [load_dataset(root, name) for name in ([data] if data else prepared(root))]
    wanted = [each for each in repository.lists if each.data in {dataset.kind for dataset in datasets}]
    if not wanted:
        names = sorted({each.data for each in repository.lists})
        what = f"{repository.name} has lists for {' and '.join(names)}, and there is none of these"
        raise DataError(what, fix=preparing(names[-1], names[-1], root))
    place = cache_folder().with_name("splits") / word
    size = sum(each.bytes for each in wanted) / 1e6
    note(f"{counted(len(wanted), 'list')} of {repository.page} ({repository.licence}, {size:.1f} MB) to {place}")
    with progress("downloading", 2 * len(wanted)) as advance:
        for each in wanted:
            for name, sha256 in each.files:
                address = f"{url or repository.url}/{each.folder}/{name}"
                _fetch(address, place / each.folder / name, sha256, each.bytes, repository, root)
                advance()
    return _import_all(root, [place / each.folder for each in wanted], datasets)


def _import(root: Path, folder: Path, datasets: Sequence[Dataset]) -> Imported:
    """Check the lists of a folder and write them to their dataset.

    Unlabeled images that the dataset lacks stay on the list: they count when they come (VOC's with SBD). Without a list
    of them, every other training image is one.
    """
    lines = read_lines(folder / "labeled.txt")
    known = recognise(fingerprint(lines))
    dataset = _target(root, folder, lines, known, datasets)
    partition = from_lists(dataset, folder)
    words = known.words if known else f"imported/{folder.resolve().name}"
    target, pool = dataset.root / "splits" / words, folder / "unlabeled.txt"
    if pool.is_file():
        here = {stem_of(record.id) for record in dataset.train}
        absent = sorted({stem_of(line) for line in read_lines(pool)} - here)
        write_list(target / pool.name, [*(record.id for record in partition.unlabeled), *absent])
    else:
        (target / pool.name).unlink(missing_ok=True)
    write_list(target / "labeled.txt", [record.id for record in partition.labeled])
    return Imported(dataset.name, words, partition, folder)


def _target(
    root: Path, folder: Path, lines: Sequence[str], known: Published | None, datasets: Sequence[Dataset]
) -> Dataset:
    """The dataset of a list: of those of its kind, or of all where it is not recognised, the one with most of it."""
    fitting = [each for each in datasets if known is None or each.kind in (known.data, "folder")]
    names = {stem_of(line) for line in lines}
    hits = {each.name: sum(stem_of(record.id) in names for record in each.labeled) for each in fitting}
    if not any(hits.values()):
        there = ", ".join(each.name for each in datasets) or "nothing"
        raise DataError(
            f"{folder} is for no prepared dataset",
            why=f"{known or 'not one of its labeled images is known'}; prepared: {there}",
            fix=preparing(known.data, known.data, root) if known else command("prepare", "--help"),
        )
    return max(fitting, key=lambda each: hits[each.name])


def _fetch(address: str, file: Path, sha256: str, most: int, repository: Repository, root: Path) -> None:
    """`file` with the content that was published, or DataError; never a part of it, or something else.

    most: bytes that it can have.
    """
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    line = command("split", "--import", f"{repository.page.rsplit('/', 1)[-1]}/splits", root=root)
    by_hand = f"git clone {repository.page} && {line}"
    try:
        with ask(address, timeout=TIMEOUT_SECONDS) as answer:
            content = body(answer, most)
    except (OSError, HTTPException, ValueError) as error:
        fix = f"where there is a network: {by_hand}"
        raise DataError(f"{address} cannot be fetched", why=str(error), fix=fix) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        why = f"sha256 {found} instead of {sha256}"
        raise DataError(f"{address} is not the file that was published", why=why, fix=by_hand)
    write_bytes(file, content)
