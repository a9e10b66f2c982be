"""The file of pooled features, where something else has its name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.feature_rows import Features
from semiseg_cli.core.inference.features import extract
from semiseg_cli.core.models import build_encoder


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_nothing_is_written_to_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "features.f16"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    encoder, how = build_encoder("tiny"), {"mean": (0.0,) * 3, "std": (1.0,) * 3, "device": torch.device("cpu")}
    with pytest.raises(DataError, match="cannot write") as caught:
        extract(encoder, [], Features(path, 1, 4), **how)
    assert f"it is a {kind}" in caught.value.why


def test_numbers_that_no_encoder_gives(tmp_path: Path) -> None:
    np.array([[1, np.nan], [2, 3]], np.float16).tofile(tmp_path / "features.f16")
    features = Features(tmp_path / "features.f16", 2, 2)
    assert features.read([1]).tolist() == [[2, 3]]
    with pytest.raises(DataError, match=r"features\.f16 is damaged") as caught:
        features.read([0, 1])
    assert f"rm {tmp_path / 'features.f16'}" in caught.value.fix
