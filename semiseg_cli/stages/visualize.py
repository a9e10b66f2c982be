"""Pictures of a run: its pseudo-labels, predictions, worst images and views, as PNG sheets and one HTML page."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError, counted, did_you_mean
from semiseg_cli.core.files import STATE, network_of, write_bytes, write_text
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.distributed import join
from semiseg_cli.core.training.preview import View, augmented, pseudo_labels
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.viz.page import page
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Heat, Labels, Photo, Tile
from semiseg_cli.stages.pictures_features import features
from semiseg_cli.stages.pictures_mix import mixtures
from semiseg_cli.stages.pictures_pairs import pairs_of_run
from semiseg_cli.stages.pictures_reconstruction import reconstructions
from semiseg_cli.stages.progress import Progress, Silent, silent
from semiseg_cli.stages.train import open_config, restore
from semiseg_cli.stages.visualize_predictions import errors, legend_of, masks

KINDS = ("pseudo", "masks", "errors", "augment", "reconstruction", "features", "pairs", "mix")
OF_NETWORK: dict[str, Callable[..., tuple[Gallery, dict[str, Any]]]] = {
    "masks": masks, "errors": errors, "features": features,
}  # fmt: skip
Array = np.ndarray[Any, Any]


def visualize(
    source: Path,
    kind: str = "pseudo",
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
    labeled ones, mix what GuidedMix-Net mixes and unmixes. out: the folder; None: samples/ in the run. Raises
    UsageError, DataError and CheckpointError with what to do.
    """
    if kind not in KINDS:
        raise UsageError(f"there are no pictures called '{kind}'", fix=did_you_mean(kind, KINDS))
    if count < 1:
        raise UsageError(f"{counted(count, 'image')} are not possible: at least 1", fix="--n 12")
    folder = out or (source if source.is_dir() else source.parent) / "samples"
    _refuse_unwritable(folder)
    if kind in OF_NETWORK:
        path = network_of(source)
        gallery, facts = OF_NETWORK[kind]({"prediction": path}, root, count, seed, device, progress)
    elif kind == "pairs":
        gallery, facts = pairs_of_run(source, root, count, seed)
    else:
        session, step = _session(source, root, device)
        of_step = {"pseudo": _pseudo, "augment": _augment, "reconstruction": reconstructions, "mix": mixtures}
        gallery, facts = of_step[kind](session, step, count, seed)
    return {"kind": kind, "source": str(source), "seed": seed, **facts, **write(gallery, folder, kind)}


def compare(
    networks: Mapping[str, Path], folder: Path, *, root: Path, count: int = 6, seed: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Predictions of several checkpoints of one dataset side by side: image, truth, then a column for each name."""
    gallery, facts = masks(networks, root, count, seed, device, silent)
    return {"kind": "comparison", "seed": seed, **facts, **write(gallery, folder, "comparison")}


def write(gallery: Gallery, folder: Path, name: str) -> dict[str, Any]:
    """Write `<name>-1.png`, ... and `<name>.html`; returns their paths. DataError where the folder takes no files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files, pngs = [], []
        for number, sheet in enumerate(gallery.sheets(), start=1):
            buffer = io.BytesIO()
            sheet.save(buffer, "PNG", optimize=True)
            pngs.append(buffer.getvalue())
            files.append(folder / f"{name}-{number}.png")
            write_bytes(files[-1], pngs[-1])
        write_text(folder / f"{name}.html", page(gallery, pngs))
    except OSError as error:
        raise DataError(f"cannot write pictures to {folder}", why=str(error), fix="another folder: -o DIR") from error
    return {"sheets": [str(file) for file in files], "page": str(folder / f"{name}.html")}


def _refuse_unwritable(folder: Path) -> None:
    """Before the work rather than after it; creates nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        why = f"{nearest} is {'read-only' if nearest.is_dir() else 'not a folder'}"
        raise DataError(f"cannot write pictures to {folder}", why=why, fix="another folder: -o DIR")


def _session(source: Path, root: Path | None, device: str) -> tuple[Session, int]:
    """The run of a directory, or of a checkpoint in one, as it stood when it was last saved; and its step."""
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
    return session, restore(session, state)["step"]


def _pseudo(session: Session, step: int, count: int, seed: int) -> tuple[Gallery, dict[str, Any]]:
    found = pseudo_labels(session, count, seed)
    weighs = any(_weighs(view) for _, view in found)
    legend = legend_of(session.dataset, f"{'of weight 0' if weighs else 'not kept'}, or padding", "confidence")
    rows, images = [], []
    for record, view in found:
        assert view.conf is not None
        share, conf = _mean(view.kept, view.valid), _mean(view.conf, view.valid)
        tiles: list[Tile] = [
            Photo(view.rgb, view.valid),
            Labels(view.label, legend.colours),
            Heat(view.conf, view.valid),
            Labels(view.label, legend.colours, view.kept),
        ]
        said = f"mean weight {share:.2f}" if weighs else f"{share:.0%} kept"
        rows.append(Row(f"{record.id}: mean confidence {conf:.2f}{'' if share is None else f', {said}'}", tiles))
        images.append({"id": record.id, "confidence": conf, "kept": share})
    subtitle = (
        f"{session.dataset.name}, step {step}: {len(rows)} of {len(session.partition.unlabeled)} unlabeled images "
        f"as the teacher sees them ({found[0][1].name} view)"
    )
    columns = ("image", "pseudo-label", "confidence", "weight" if weighs else "kept pixels")
    gallery = Gallery(f"Pseudo-labels of {session.config.title}", subtitle, columns, rows, legend)
    return gallery, {"method": session.config.title, "step": step, "images": images}


def _augment(session: Session, step: int, count: int, seed: int) -> tuple[Gallery, dict[str, Any]]:
    legend = legend_of(session.dataset, "ignored, or padding")
    found = augmented(session, count, seed)
    taught = "pseudo-label" if "unlabeled" in session.plan.inputs else "label"

    def tiles(views: Sequence[View]) -> Iterator[Tile]:
        for view in views:
            yield from (Photo(view.rgb, view.valid), Labels(view.label, legend.colours))

    rows = [Row(record.id, list(tiles(views))) for record, views in found]
    columns = [name for view in found[0][1] for name in (f"{view.name} view", f"its {taught}")]
    plan = session.plan
    subtitle = f"{session.dataset.name}: {counted(len(rows), 'image')}, crops of {plan.crop} px, "
    subtitle += f"scale {plan.scale[0]:g} to {plan.scale[1]:g}; labels follow the crops, flips and CutMix"
    gallery = Gallery(f"Views that {session.config.title} trains on", subtitle, columns, rows, legend)
    images = [{"id": record.id, "views": [view.name for view in views]} for record, views in found]
    return gallery, {"method": session.config.title, "step": step, "images": images}


def _weighs(view: View) -> bool:
    """Whether pixels count by a weight, rather than being kept or not."""
    return view.kept is not None and bool(((view.kept > 0) & (view.kept < 1)).any())


def _mean(values: Array | None, valid: Array) -> float | None:
    return None if values is None or not valid.any() else float(values[valid].mean())
