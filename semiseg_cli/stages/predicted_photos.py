"""What `semiseg predict` is given: a network, files and folders of photos, and prepared datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.index import is_prepared, load_dataset
from semiseg_cli.core.data.listing import leads_to, left_out, look_below, suffixes
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.files import NETWORKS
from semiseg_cli.core.finding import NEWEST
from semiseg_cli.core.sources import stacks
from semiseg_cli.stages.predicted_files import WRITTEN

Note = Callable[[str], None]


def network_and_images(paths: Sequence[Path], root: Path) -> tuple[Path | None, Sequence[Path]]:
    """The first path if it names a network, and the images; None where all are images: the newest run is meant.

    A run directory and a .safetensors file are networks, and what is neither an image nor a folder if images follow.
    What is not there, but the name of a dataset prepared in `root`, is that dataset's folder.
    Raises UsageError where no image is named.
    """
    paths = [path if path.exists() or not is_prepared(root / path) else root / path for path in paths]
    first = paths[0]
    network = first.suffix == ".safetensors" or str(first) == NEWEST
    network |= any((first / name).is_file() for name in ("config.toml", *NETWORKS))
    if not network and (first.is_dir() or first.suffix.lower() in suffixes() or len(paths) == 1):
        return None, paths
    if len(paths) == 1:
        raise UsageError(f"{first} is a network, and no image is named", fix=command("predict", first, "photos"))
    return first, paths[1:]


def find_images(images: Sequence[Path], out: Path, note: Note = lambda line: None) -> dict[str, Path]:
    """Images by what they are called below `labels/` (no suffix): a file by its name, a folder's by their path.

    Those of a prepared dataset's folder are its images by their ids, in shards or not, and never its masks. `out` is
    not searched. note: is told what else lies in other folders, and of photos of several pages. Raises DataError for
    what is not there, for names that collide and where nothing is found; UsageError where predictions would be written
    among the images.
    """
    found: dict[str, Path] = {}
    for given in images:
        if not given.exists():
            why = "nor is a dataset of this name prepared"
            raise DataError(f"there is no file or folder {given}", why=why, fix="semiseg predict CKPT photos/")
        place = leads_to(given)
        written = [leads_to(out / part) for part in WRITTEN]
        if place == leads_to(out) or any(place.is_relative_to(folder) for folder in written):
            fix = "give the predictions a folder of their own: -o predictions"
            raise UsageError(f"{given} is both read and written", fix=fix)
        for id, path in _images(given, out, note):
            if id in found and leads_to(found[id]) != leads_to(path):
                why = f"both would be written to {out / 'labels' / id}.png"
                raise DataError(f"{found[id]} and {path} collide", why=why, fix="rename one, or predict them apart")
            found[id] = path
    if not found:
        where = ", ".join(map(str, images))
        raise DataError(f"there is no image in {where}", why=f"looked for {', '.join(sorted(suffixes()))}")
    for line in stacks.told(found.values(), on_all_cores):
        note(line)
    return found


def _images(given: Path, out: Path, note: Note) -> Iterator[tuple[str, Path]]:
    if is_prepared(given):
        folder = leads_to(given)  # "." has no name
        dataset = load_dataset(folder.parent, folder.name)
        for records in (dataset.training, dataset.val):
            for record in records:
                yield record.id, record.image
    elif given.is_dir():
        below = look_below(given, {leads_to(out)})
        if line := left_out(given, below.others.items()):
            note(line)
        for path in below.files:
            yield path.relative_to(given).with_suffix("").as_posix(), path
    else:
        yield given.stem, given
