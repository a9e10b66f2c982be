"""Pictures of a method's steps: pseudo-labels as it makes them, and the views that it trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from semiseg_cli.core.errors import counted
from semiseg_cli.core.ops.teacher import Teacher
from semiseg_cli.core.training.preview import View, augmented, pseudo_labels
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Heat, Labels, Photo, Tile
from semiseg_cli.stages.visualize_predictions import legend_of

Array = np.ndarray[Any, Any]


def standing(meta: dict[str, Any]) -> str:
    """Where a run stands, of the metadata of its state: its step, and what was measured last."""
    last = meta.get("last")
    if not last:
        return f"step {meta['step']}"
    when = "" if last["step"] == meta["step"] else f" at step {last['step']}"
    return f"step {meta['step']}, mIoU {last['miou']:.1f}{when}"


def labeller(session: Session) -> str:
    """Whose pseudo-labels a method learns from."""
    taught = any(isinstance(module, Teacher) for module in session.method.modules())
    return "its teacher, a moving average of the student" if taught else "the student itself"


def threshold(session: Session) -> str:
    """From which confidence on a pixel counts, in words; nothing where no single one decides it."""
    tau = getattr(session.config.method, "tau", None)
    return "" if tau is None else f"kept from confidence {tau:g} on"


def pseudo(session: Session, meta: dict[str, Any], count: int, seed: int) -> tuple[Gallery, dict[str, Any]]:
    found = pseudo_labels(session, count, seed)
    weighs = any(_weighs(view) for _, view in found)
    left_out = [("of weight 0" if weighs else "not kept")] * any(_leaves_out(view) for _, view in found)
    legend = legend_of(session.dataset, ", or ".join([*left_out, session.method.untaught]), "confidence")
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
        rows.append(Row(f"{record.id}: {_in_words(conf, share, weighs)}", tiles))
        images.append({"id": record.id, "confidence": conf, "kept": share})
    counts = "weighed by confidence" if weighs else threshold(session)
    about = [f"{session.dataset.name}, {standing(meta)}", f"labels by {labeller(session)}", *[counts] * bool(counts)]
    subtitle = f"{'; '.join(about)}; {len(rows)} of {len(session.partition.unlabeled)} unlabeled images, as they are "
    subtitle += f"seen for it ({found[0][1].name} view)"
    columns = ("image", "pseudo-label", "confidence", "weight" if weighs else "kept pixels")
    gallery = Gallery(f"Pseudo-labels of {session.config.title}", subtitle, columns, rows, legend)
    return gallery, {"method": session.config.title, "step": meta["step"], "images": images}


def augment(session: Session, meta: dict[str, Any], count: int, seed: int) -> tuple[Gallery, dict[str, Any]]:
    found = augmented(session, count, seed)
    taught = "pseudo-label" if "unlabeled" in session.plan.inputs else "label"
    legend = legend_of(session.dataset, session.method.untaught if taught == "pseudo-label" else "ignored, or padding")

    def tiles(views: Sequence[View]) -> Iterator[Tile]:
        for view in views:
            yield from (Photo(view.rgb, view.valid), Labels(view.label, legend.colours))

    rows = [Row(record.id, list(tiles(views))) for record, views in found]
    columns = [name for view in found[0][1] for name in (f"{view.name} view", f"its {taught}")]
    plan = session.plan
    taught_by = f"; pseudo-labels by {labeller(session)}" if taught == "pseudo-label" else ""
    subtitle = f"{session.dataset.name}, {standing(meta)}{taught_by}; {counted(len(rows), 'image')}, "
    subtitle += f"crops of {plan.crop} px, scale {plan.scale[0]:g} to {plan.scale[1]:g}; "
    pasted = len(found[0][1]) > 1 and session.config.train.cutmix > 0
    subtitle += "labels follow the crops, flips and CutMix" if pasted else "labels follow the crops and flips"
    gallery = Gallery(f"Views that {session.config.title} trains on", subtitle, columns, rows, legend)
    images = [{"id": record.id, "views": [view.name for view in views]} for record, views in found]
    return gallery, {"method": session.config.title, "step": meta["step"], "images": images}


def _weighs(view: View) -> bool:
    """Whether pixels count by a weight, rather than being kept or not."""
    return view.kept is not None and bool(((view.kept > 0) & (view.kept < 1)).any())


def _leaves_out(view: View) -> bool:
    """Whether the loss leaves out pixels that have a pseudo-label."""
    return view.kept is not None and bool((view.valid & (view.kept == 0)).any())


def _in_words(conf: float | None, share: float | None, weighs: bool) -> str:
    """Of an image's pixels with a pseudo-label; there may be none, or no telling which of them count."""
    if conf is None:
        return "no pixel has a pseudo-label"
    counted = "" if share is None else f", mean weight {share:.2f}" if weighs else f", {share:.0%} kept"
    return f"mean confidence {conf:.2f}{counted}"


def _mean(values: Array | None, valid: Array) -> float | None:
    return None if values is None or not valid.any() else float(values[valid].mean())
