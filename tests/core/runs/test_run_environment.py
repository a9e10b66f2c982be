"""What a run was made with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from semiseg_cli.core.runs.environment import commit, write_environment


def test_the_environment_is_written_down(tmp_path: Path) -> None:
    write_environment(tmp_path, "a device")
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["device"] == "a device"
    assert found["torch"].split(".")[0].isdecimal()
    assert {"python", "semiseg", "torchvision", "numpy", "platform", "command", "commit"} <= set(found)


def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parents[3]
    if not (here / ".git").exists():
        assert commit() is None
        return
    head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert (commit() or "").removesuffix("-dirty") == head
    monkeypatch.setenv("PATH", "")
    assert commit() is None
