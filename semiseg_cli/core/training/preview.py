"""What a method shows its networks: real steps of a restored run, taken apart into images for people to look at.

Nothing here knows a paper: it reads the terms and the weak view that every method's step returns, at the run's last
step, so that no warm-up hides them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.data.loader import HostBatch
from semiseg_cli.core.data.spec import IGNORE, Record
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.types import Clock, Pseudo

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class View:
    """One view of one image: uint8 HxWx3 RGB, and per pixel class (255: none), confidence and weight in the loss.

    conf is None where the labels are given, kept where the method's step does not tell.
    """

    name: str
    rgb: Array
    valid: Array
    label: Array
    conf: Array | None = None
    kept: Array | None = None


def pseudo_labels(session: Session, count: int, seed: int) -> list[tuple[Record, View]]:
    """Unlabeled images as the method's teacher sees and labels them, and the pixels that its loss counts.

    The weak view if a term is taught by its labels, else the first view that is taught. Raises UsageError for a method
    without pseudo-labels.
    """
    return [(record, views[0]) for record, views in _steps(session, count, seed, False, lambda out: [_shown(out)])]


def augmented(session: Session, count: int, seed: int) -> list[tuple[Record, list[View]]]:
    """The weak view, then every strong one, each with the labels it is taught; of labeled images if that is all."""
    if "unlabeled" not in session.plan.inputs:
        return list(_labeled(session, count, seed))

    def shown(out: StepOutput) -> list[tuple[str, Tensor, Pseudo, Tensor | None]]:
        views = [("weak", out.weak.image_B3HW, out.weak.pseudo, None)] if out.weak else []
        strong = [term for term in out.terms if term.view not in ("weak", "feature")]
        return [*views, *((term.name, term.image_B3HW, term.pseudo, term.kept_BHW) for term in strong)]

    return list(_steps(session, count, seed, True, shown))


def pictured(
    session: Session, count: int, seed: int, needs: str, whose: str
) -> Iterator[tuple[Record, dict[str, Tensor]]]:
    """Rows of `StepOutput.pictures` on the host, of `count` different unlabeled images, with the images' records.

    needs: the picture without which there is nothing to show. Raises UsageError where the method has none.
    whose: says in that error which method has them.
    """
    records, seen = session.partition.unlabeled, set[int]()
    session.train.train()
    for number, host in enumerate(_batches(session, seed)):
        shown = _step(session, host, seed + number).pictures
        if needs not in shown:
            raise UsageError(
                f"{session.config.title} has no pictures of this kind",
                why=whose,
                fix="--pseudo, or --augment (what it is shown)",
            )
        for row, index in enumerate(host["unlabeled_index"].tolist()):
            if index not in seen:
                yield records[index], {name: value[row].cpu() for name, value in shown.items()}
                seen.add(index)
            if len(seen) == min(count, len(records)):
                return


def colours(session: Session, image_3HW: Tensor) -> Array:
    """A normalised image as uint8 HxWx3 RGB."""
    image = image_3HW.detach().to(session.train.mean.device)
    mean, std = (values[:, None, None] for values in (session.train.mean, session.train.std))
    rgb: Array = ((image.float() * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(rgb)


def _shown(out: StepOutput) -> tuple[str, Tensor, Pseudo, Tensor | None]:
    """Image, pseudo-labels and kept pixels that belong together."""
    terms = [term for term in out.terms if term.kept_BHW is not None]
    if out.weak is not None:
        for term in terms:
            if torch.equal(term.pseudo.label_BHW, out.weak.pseudo.label_BHW):
                return "weak", out.weak.image_B3HW, out.weak.pseudo, term.kept_BHW
    for term in (*terms, *out.terms):
        return term.name, term.image_B3HW, term.pseudo, term.kept_BHW
    assert out.weak is not None
    return "weak", out.weak.image_B3HW, out.weak.pseudo, None


def _steps(
    session: Session, count: int, seed: int, mixing: bool, shown: Callable[[StepOutput], list[Any]]
) -> Iterator[tuple[Record, list[View]]]:
    """Steps until `count` different unlabeled images were seen (or all there are); each with its views.

    mixing: with CutMix. Without it, what is taught belongs to one image, pixel by pixel.
    """
    records = session.partition.unlabeled
    if "unlabeled" not in session.plan.inputs:
        raise _none(session)
    session.train.train()
    session.train.view_settings = replace(session.train.view_settings, mixing=mixing)
    seen: set[int] = set()
    for number, host in enumerate(_batches(session, seed)):
        out = _step(session, host, seed + number)
        if out.weak is None and not out.terms:
            raise _none(session)
        views = shown(out)
        for row, index in enumerate(host["unlabeled_index"].tolist()):
            if index not in seen:
                yield records[index], [_view(session, row, *view) for view in views]
                seen.add(index)
            if len(seen) == min(count, len(records)):
                return


def _step(session: Session, host: HostBatch, seed: int) -> StepOutput:
    """All passes of one micro-batch as the last step of the run would take it, as one. seed: of its draws."""
    session.train.seed, micro = seed, session.plan.micro
    clock = Clock(session.plan.steps - 1, session.plan.steps)
    out = StepOutput({})
    for part in session.train(host, clock, np.arange(micro), micro):
        out = out.plus(part)
    terms = tuple(term for term in out.terms if len(term.image_B3HW) == micro)  # others mix in labeled images
    return replace(out, terms=terms)


def _view(session: Session, row: int, name: str, image: Tensor, pseudo: Pseudo, kept: Tensor | None) -> View:
    valid = pseudo.valid_BHW[row]
    return View(
        name,
        colours(session, image[row]),
        valid.cpu().numpy(),
        torch.where(valid, pseudo.label_BHW[row], IGNORE).byte().cpu().numpy(),
        pseudo.conf_BHW[row].float().cpu().numpy(),
        None if kept is None else (kept[row].float() * valid).cpu().numpy(),
    )


def _labeled(session: Session, count: int, seed: int) -> Iterator[tuple[Record, list[View]]]:
    records = session.partition.labeled
    seen: set[int] = set()
    for host in _batches(session, seed):
        for row, index in enumerate(host["labeled_index"].tolist()):
            if index not in seen:
                image, valid, mask = (host[f"labeled_{key}"][row].numpy() for key in ("image", "valid", "mask"))
                yield records[index], [View("weak", image, valid > 0, mask)]
                seen.add(index)
            if len(seen) == min(count, len(records)):
                return


def _batches(session: Session, seed: int) -> Iterator[HostBatch]:
    """Micro-batches of the run's size without end."""
    plan = replace(session.plan, seed=seed, start=0, steps=2**31, batch=session.plan.micro)
    return session.batches(plan, few=True)


def _none(session: Session) -> UsageError:
    return UsageError(
        f"{session.config.method_name} makes no pseudo-labels",
        why="it learns from the labeled images alone",
        fix="--masks (predictions), or --augment (what it is shown)",
    )
