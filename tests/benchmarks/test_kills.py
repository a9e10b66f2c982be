"""The benchmarks of killed and of long runs, short: what they find, and that they would find what they look for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kills, long_run
from benchmarks.kills import Kill
from benchmarks.tiny import prepared
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.stages.recorder import Recorder


@pytest.fixture
def tortured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Two kills of runs of 10 steps: SIGTERM in the evaluation after step 4, SIGKILL in a save."""

    def run(method: str) -> dict[str, Any]:
        aimed = iter([Kill("evaluation", signal.SIGTERM, 0), Kill("save", signal.SIGKILL, 6)])
        monkeypatch.setattr(kills, "drawn", lambda rng, seconds: next(aimed))
        monkeypatch.setattr(kills, "PLAN", kills.PLAN | {"train.steps": 10})
        prepared(tmp_path / "data")
        return kills.tortured(method, 2, tmp_path)

    return run


def test_killed_runs_are_as_if_nobody_had_disturbed_them(tortured: Callable[..., dict[str, Any]]) -> None:
    found = tortured("meanteacher")
    assert found["differ"] == []
    assert found["killed_by_kind"] == {"time": 0, "save": 1, "evaluation": 1}
    assert found["tensors"] > 200
    assert found["rows"] == 5  # log lines after steps 5 and 10, evaluations after 4, 8 and 10
    assert "2 kills" in kills.line(found)


def test_a_resume_that_forgets_is_found(
    tortured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "load", lambda *state: None)
    monkeypatch.setattr(Recorder, "owes_evaluation", lambda recorder: False)
    assert tortured("supervised")["differ"] == ["log"]


def test_what_a_run_keeps_is_counted(tmp_path: Path) -> None:
    prepared(tmp_path / "data")
    found = long_run.watched("supervised", 20, tmp_path)
    assert [row["step"] for row in found["rows"]] == list(range(1, 21))
    assert found["tenth"]["step"] == 2
    assert found["end"]["files"] == found["tenth"]["files"]
    assert found["end"]["open"] <= found["tenth"]["open"]
    assert found["end"]["log_bytes"] > found["tenth"]["log_bytes"]
    assert found["end"]["memory"] > 50e6
    assert long_run.line(found).startswith("supervised: 20 steps in ")
