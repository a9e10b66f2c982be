"""Pictures of a run: its pseudo-labels, predictions, worst images and views, as PNG sheets and one HTML page."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError, counted, did_you_mean
from semiseg_cli.core.files import STATE, network_of, write_bytes, write_text
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.distributed import join
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.viz.page import page
from semiseg_cli.core.viz.sheets import Gallery
from semiseg_cli.stages.pictures_features import features, require_tsne
from semiseg_cli.stages.pictures_mix import mixtures
from semiseg_cli.stages.pictures_pairs import pairs_of_run
from semiseg_cli.stages.pictures_reconstruction import reconstructions
from semiseg_cli.stages.pictures_steps import augment, pseudo
from semiseg_cli.stages.progress import Progress, Silent, silent
from semiseg_cli.stages.train import open_config, restore
from semiseg_cli.stages.visualize_predictions import errors, masks

TOGETHER = "pictures"  # the page of several kinds
KINDS = ("pseudo", "masks", "errors", "augment", "reconstruction", "features", "pairs", "mix")
OF_NETWORK: dict[str, Callable[..., tuple[Gallery, dict[str, Any]]]] = {
    "masks": masks, "errors": errors, "features": features,
}  # fmt: skip
OF_STEP: dict[str, Callable[[Session, dict[str, Any], int, int], tuple[Gallery, dict[str, Any]]]] = {
    "pseudo": pseudo, "augment": augment, "reconstruction": reconstructions, "mix": mixtures,
}  # fmt: skip


def visualize(
    source: Path,
    kind: str | Sequence[str] = "pseudo",
    *,
    root: Path | None = None,
    count: int = 12,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Draw `count` images of a run or checkpoint; returns the files written and what they show.

    kind: pseudo and augment take steps of the run's method as it stands in its resume state; masks (images drawn by
    `seed`) and errors (lowest mIoU first) show predictions on the validation images; reconstruction shows what S4MIM
    masks and restores, features those of the network by t-SNE; pairs shows unlabeled images beside their nearest
    labeled ones, mix what GuidedMix-Net mixes and unmixes. Several come into one page, pictures.html. out: the folder;
    None: samples/ in the run. Raises UsageError, DataError and CheckpointError with what to do, before it writes.
    """
    kinds = [kind] if isinstance(kind, str) else list(dict.fromkeys(kind))
    for each in kinds:
        if each not in KINDS:
            raise UsageError(f"there are no pictures called '{each}'", fix=did_you_mean(each, KINDS))
    if count < 1:
        raise UsageError(f"{counted(count, 'image')} are not possible: at least 1", fix="--n 12")
    folder = out or (source if source.is_dir() else source.parent) / "samples"
    _refuse_unwritable(folder)
    if "features" in kinds:
        require_tsne()  # before the other kinds take their time
    found = {each: _gallery(source, each, root, count, seed, device, progress) for each in kinds}
    about = {"source": str(source), "seed": seed}
    if len(kinds) == 1:
        gallery, facts = found[kinds[0]]
        return {"kind": kinds[0], **about, **facts, **write(gallery, folder, kinds[0])}
    images = [{"kind": each, **image} for each, (_, facts) in found.items() for image in facts["images"]]
    written = write_all({each: gallery for each, (gallery, _) in found.items()}, folder, TOGETHER, _title(source))
    return {"kinds": kinds, **about, "images": images, **written}


def _gallery(
    source: Path, kind: str, root: Path | None, count: int, seed: int, device: str, progress: Progress
) -> tuple[Gallery, dict[str, Any]]:
    if kind in OF_NETWORK:
        return OF_NETWORK[kind]({"prediction": network_of(source)}, root, count, seed, device, progress)
    if kind == "pairs":
        return pairs_of_run(source, root, count, seed)
    session, meta = _session(source, root, device)
    return OF_STEP[kind](session, meta, count, seed)


def _title(source: Path) -> str:
    return f"Pictures of {source.absolute().name if source.is_dir() else source}"


def compare(
    networks: Mapping[str, Path], folder: Path, *, root: Path, count: int = 6, seed: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Predictions of several checkpoints of one dataset side by side: image, truth, then a column for each name."""
    gallery, facts = masks(networks, root, count, seed, device, silent)
    return {"kind": "comparison", "seed": seed, **facts, **write(gallery, folder, "comparison")}


def write(gallery: Gallery, folder: Path, name: str) -> dict[str, Any]:
    """Write `<name>-1.png`, ... and `<name>.html`; returns their paths. DataError where the folder takes no files."""
    return write_all({name: gallery}, folder, name)


def write_all(galleries: Mapping[str, Gallery], folder: Path, name: str, title: str = "") -> dict[str, Any]:
    """The sheets of each under its name, and all of them in `<name>.html`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files, parts = list[Path](), list[tuple[Gallery, list[bytes]]]()
        for each, gallery in galleries.items():
            pngs = []
            for number, sheet in enumerate(gallery.sheets(), start=1):
                buffer = io.BytesIO()
                sheet.save(buffer, "PNG", optimize=True)
                pngs.append(buffer.getvalue())
                files.append(folder / f"{each}-{number}.png")
                write_bytes(files[-1], pngs[-1])
            parts.append((gallery, pngs))
        write_text(folder / f"{name}.html", page(parts, title))
    except OSError as error:
        raise DataError(f"cannot write pictures to {folder}", why=str(error), fix="another folder: -o DIR") from error
    return {"sheets": [str(file) for file in files], "page": str(folder / f"{name}.html")}


def _refuse_unwritable(folder: Path) -> None:
    """Before the work rather than after it; creates nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        why = f"{nearest} is {'read-only' if nearest.is_dir() else 'not a folder'}"
        raise DataError(f"cannot write pictures to {folder}", why=why, fix="another folder: -o DIR")


def _session(source: Path, root: Path | None, device: str) -> tuple[Session, dict[str, Any]]:
    """The run of a directory, or of a checkpoint in one, as it stood when it was last saved; and its metadata."""
    run = source if source.is_dir() else source.parent
    state = run / STATE
    if not state.is_file():
        raise CheckpointError(
            f"{run} holds no resume state",
            why="pseudo-labels and views come from the method as it trained, not from the network that it exports",
            fix=f"{command('viz', source, '--masks', root=root)}, or name the run's directory",
        )
    config = runs.config_of(run)
    config = replace(config, train=replace(config.train, compile=False, graph="off"))
    session = open_config(config, find_root(config.data.name, root, run), join(device), Silent(), bare=True)
    return session, restore(session, state)
