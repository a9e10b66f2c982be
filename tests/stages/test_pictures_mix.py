"""`viz --mix`: mixtures of a real run are what their parts make, and other methods have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.training.preview import colours, pictured
from semiseg_cli.stages.train import train
from semiseg_cli.stages.visualize import _session, visualize


@pytest.fixture
def run(shapes_root: Path, configured: Callable[..., Resolved], tmp_path: Path) -> Path:
    config = configured("guidedmix", {"train.steps": 2, "train.amp": "off"})
    return Path(train(config, data_root=shapes_root, runs_root=tmp_path, device="cpu")["run"])


def test_mixtures_are_drawn(run: Path, shapes_root: Path) -> None:
    found = visualize(run, "mix", root=shapes_root, count=5, device="cpu")
    assert (found["kind"], found["method"], found["step"]) == ("mix", "guidedmix", 2)
    unlabeled = {record.id for record in load_dataset(shapes_root, "shapes").train if record.mask is None}
    assert len({image["id"] for image in found["images"]}) == 5
    assert {image["id"] for image in found["images"]} <= unlabeled
    assert all(0 <= image["lambda"] < 0.5 for image in found["images"])
    assert Path(found["page"]).is_file()


def test_a_mixture_is_what_its_parts_make(run: Path, shapes_root: Path) -> None:
    session, _ = _session(run, shapes_root, "cpu")
    for _, shown in pictured(session, 3, 0, "mixed", ""):
        parts = [colours(session, shown[name]).astype(float) for name in ("labeled", "unlabeled", "mixed")]
        share = float(shown["share"])
        assert np.abs(share * parts[0] + (1 - share) * parts[1] - parts[2]).max() <= 1  # three roundings
        assert shown["prediction"].shape == shown["decoupled"].shape == shown["counted"].shape
        assert shown["counted"].dtype == torch.bool


def test_pixels_without_a_pseudo_label_are_named_as_what_they_are(
    run: Path, shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss leaves out none that has one: those without are padded, or the mixed-in image's label ignores them."""
    galleries = []
    monkeypatch.setattr("semiseg_cli.stages.visualize.write", lambda gallery, *_: galleries.append(gallery) or {})
    for kind in ("mix", "pseudo", "augment"):
        visualize(run, kind, root=shapes_root, count=2, out=tmp_path, device="cpu")
    named = [gallery.legend.unlabeled for gallery in galleries]
    assert named == ["padding, or ignored in the labeled image of its mixture"] * 3


def test_a_method_without_mixtures_says_so(
    shapes_root: Path, configured: Callable[..., Resolved], tmp_path: Path
) -> None:
    config = configured("fixmatch", {"train.steps": 1})
    done = train(config, data_root=shapes_root, runs_root=tmp_path, device="cpu")
    with pytest.raises(UsageError, match="fixmatch has no pictures of this kind") as caught:
        visualize(Path(done["run"]), "mix", root=shapes_root, device="cpu")
    assert "--mix draws what guidedmix mixes" in caught.value.why
    assert "--pseudo" in caught.value.fix
