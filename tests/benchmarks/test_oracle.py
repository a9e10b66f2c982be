"""Pseudo-labels that know the masks: which count, as what, and that a run learns them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from steps import pseudo_of

from benchmarks.oracle import WAYS, telling, told
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.spec import IGNORE
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.types import Pseudo
from semiseg_cli.stages.train import train

# five pixels of three classes: sure and right, sure and wrong, unsure and right, unsure and wrong, without a mask
LOGITS = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]]).T.view(1, 3, 1, 5)
MASK = torch.tensor([0, 2, 0, 1, IGNORE]).view(1, 1, 5)


@pytest.mark.parametrize(
    ("way", "labels", "counted"),
    [
        ("none", None, [0, 0, 0, 0, 0]),
        ("right", [0, None, 0, None, None], [1, 0, 0, 0, 0]),
        ("true", [0, 2, 0, 1, None], [1, 1, 0, 0, 0]),
        ("all", [0, 2, 0, 1, None], [1, 1, 1, 1, 0]),
    ],
)
def test_by_hand(way: str, labels: list[int | None] | None, counted: list[int]) -> None:
    own = pseudo_of(LOGITS, torch.ones(1, 1, 5, dtype=torch.bool))
    found = told(own, MASK, way)
    assert (found.conf_BHW > 0.95).flatten().tolist() == [bool(each) for each in counted]
    assert ((found.conf_BHW > 0) <= (MASK != IGNORE)).all()
    for label, wanted in zip(found.label_BHW.flatten().tolist(), labels or [], strict=bool(labels)):
        assert wanted is None or label == wanted
    assert found.logits_BKHW is own.logits_BKHW


def test_runs_are_told(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> None:
    """With a threshold that no pixel of such a network reaches, all count by the masks, or none; afterwards its own."""
    changes = {"data.labeled": "2", "method.tau": 0.9999, "train.steps": 2}
    of, kept = Pseudo.of, dict[str, float]()
    for way in (*WAYS, ""):
        run = tmp_path / (way or "own")
        resolved = configured("fixmatch", changes)
        if way:
            with telling(way):
                train(resolved, data_root=shapes_root, runs_root=tmp_path, out=run)
        else:
            train(resolved, data_root=shapes_root, runs_root=tmp_path, out=run)
        kept[way] = next(row["kept"] for row in read_metrics(run) if "kept" in row)
    assert kept == {"none": 0, "right": 0, "true": 0, "all": 1, "": 0}
    assert Pseudo.of == of
