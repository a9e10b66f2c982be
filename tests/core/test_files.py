"""Which network a path stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import network_of


def test_best_is_preferred_and_last_is_enough(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        network_of(tmp_path)
    (tmp_path / "last.safetensors").touch()
    assert network_of(tmp_path) == tmp_path / "last.safetensors"
    (tmp_path / "best.safetensors").touch()
    assert network_of(tmp_path) == tmp_path / "best.safetensors"
    assert network_of(tmp_path / "last.safetensors") == tmp_path / "last.safetensors"
