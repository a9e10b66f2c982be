"""What does a method lose by its pseudo-labels? The run again, with pseudo-labels that know the masks.

    python -m benchmarks.oracle none|right|true|all -m unimatch -d DATA -l 23 ...

What comes after the first word are arguments of `semiseg train`. Training images that have a mask and are not labeled
are the run's unlabeled ones, others are left out. A pixel whose mask says nothing does not count.

none: no pseudo-label counts; what is left of the method are its passes.
right: of those that count, the right ones.
true: as many as count, wrong ones put right.
all: every pixel, with its mask's class.

Less supervised training on the same labels, `none` is what the passes cost; the run itself less `true` is what wrong
pseudo-labels cost, `true` less `all` what is lost with pixels that are left out as unsure. How much there is to gain at
all says supervised training on every mask. Losses of logits (inter-pixel relations) keep the method's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from semiseg_cli.cli import main
from semiseg_cli.core.data.loader import HostBatch
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.data.view import Records
from semiseg_cli.core.training import setup
from semiseg_cli.core.training.step import Step, Train
from semiseg_cli.core.types import Batch, Images, Moment, Pseudo, SemiBatch

WAYS = ("none", "right", "true", "all")


@dataclass(frozen=True)
class Known(Images):
    """Unlabeled images with their masks."""

    mask_BHW: Tensor


class Telling(Train):
    """The run's step, whose unlabeled images are known."""

    def to_batch(self, host: HostBatch, moment: Moment, step: Step | None = None) -> Batch:
        batch = super().to_batch(host, moment, step)

        def known(name: str, images: Images | None) -> Any:
            return images and Known(**vars(images), mask_BHW=host[f"{name}_mask"].long())

        assert isinstance(batch, SemiBatch)
        return replace(
            batch, unlabeled=known("unlabeled", batch.unlabeled), partner=known("partner", batch.partner)
        )


def told(pseudo: Pseudo, mask_BHW: Tensor, way: str) -> Pseudo:
    """Pseudo-labels that know the masks; those that are not to count have confidence 0."""
    if way == "none":
        return replace(pseudo, conf_BHW=torch.zeros_like(pseudo.conf_BHW))
    conf = torch.ones_like(pseudo.conf_BHW) if way == "all" else pseudo.conf_BHW
    counted = pseudo.label_BHW == mask_BHW if way == "right" else mask_BHW != IGNORE
    label = pseudo.label_BHW if way == "right" else mask_BHW.where(counted, pseudo.label_BHW)
    return replace(pseudo, label_BHW=label, conf_BHW=conf.where(counted, 0.0))


@contextmanager
def telling(way: str) -> Iterator[None]:
    """Runs that are started here are told their pseudo-labels."""
    own = Pseudo.of

    def of(logits_BKHW: Tensor, images: Images | Pseudo) -> Pseudo:
        pseudo = own(logits_BKHW, images)
        return told(pseudo, images.mask_BHW, way) if isinstance(images, Known) else pseudo

    masked = patch.object(Records, "shown_bare", lambda records: records.masked)
    with patch.object(Pseudo, "of", of), patch.object(setup, "Train", Telling), masked:
        yield


if __name__ == "__main__":
    way, *arguments = sys.argv[1:] or [""]
    if way not in WAYS:
        sys.exit(__doc__)
    with telling(way):
        sys.exit(main(["train", *arguments]))
