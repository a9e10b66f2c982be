"""`semiseg export` as typed. The stage is tested beside its own file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.export as stage
from semiseg_cli.cli import main

FOUND = {"file": "m.safetensors", "card": "m.md", "bytes": 3 * 2**20, "half": False, "checkpoint": "r/best.safetensors"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(stage, "export_network", lambda *a, **how: (seen.append((*a, how)), FOUND)[1])
    return seen


def test_options(asked: list[Any]) -> None:
    assert main(["export", "r"]) == 0
    assert main(["export", "r", "-o", "m.safetensors", "--half"]) == 0
    assert asked == [(Path("r"), None, {"half": False}), (Path("r"), Path("m.safetensors"), {"half": True})]


@pytest.mark.usefixtures("asked")
def test_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "r"])
    assert capsys.readouterr().out == "m.safetensors, 3.0 MiB, from r/best.safetensors\nmodel card: m.md\n"
    main(["export", "r", "--json"])
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "export", "result": FOUND}
