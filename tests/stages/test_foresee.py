"""What a run would cost: what is told, what is refused, and what a dry run leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.training import estimate
from semiseg_cli.core.training.session import Session
from semiseg_cli.stages import foresee
from semiseg_cli.stages.foresee import planned
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.train import train


class Listener(Silent):
    def __init__(self) -> None:
        self.notes, self.foretold = list[str](), list[dict[str, Any]]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def foreseen(self, cost: dict[str, Any]) -> None:
        self.foretold.append(cost)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recipe is a large one."""
    monkeypatch.setattr(estimate, "SIDE", 16)
    monkeypatch.setattr(estimate, "LARGE", 0)


def run(resolved: Resolved, root: Path, out: Path, **more: Any) -> tuple[dict[str, Any], Listener]:
    screen = Listener()
    found = train(resolved, data_root=root, runs_root=out, device="cpu", screen=screen, **more)
    return found, screen


def test_a_dry_run_downloads_nothing_and_says_what_a_run_would(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "cache"))
    resolved = configured("supervised", {"model.backbone": "resnet18", "model.weights": "auto"})
    found, screen = run(resolved, shapes_root, tmp_path, dry_run=True)
    assert any(note.startswith("a run would download weights of resnet18 (about 47 MB)") for note in screen.notes)
    assert found["steps"] == 5
    assert "estimated_from" not in found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_large_recipe_is_estimated(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> None:
    found, screen = run(configured(), shapes_root, tmp_path, dry_run=True)
    assert found["estimated_from"] == {"images": 2, "crop": 17}
    assert screen.foretold == []  # a dry run's result is its cost
    found, screen = run(configured(), shapes_root, tmp_path)
    assert found["last"]["step"] == 5
    assert [cost["steps"] for cost in screen.foretold] == [5]


def test_a_usual_recipe_is_not_estimated(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path
) -> None:
    assert run(configured(), shapes_root, tmp_path)[1].foretold == []


@pytest.mark.usefixtures("small")
def test_memory_that_is_not_there_is_refused_before_it_is_taken(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "free_memory", lambda: 0)
    with pytest.raises(DeviceError, match=r"about .* GiB of memory, .* GiB in any case, and .* are there") as error:
        run(configured(), shapes_root, tmp_path)
    assert "-p small" in error.value.fix
    assert list(tmp_path.iterdir()) == []
    assert run(configured(), shapes_root, tmp_path, dry_run=True)[0]["micro_batch"] is None


@pytest.mark.usefixtures("small")
def test_memory_that_may_suffice_is_not_refused(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def between(session: Session, advance: Callable[[], object]) -> dict[str, Any]:
        cost = estimate.estimate(session, advance)
        least, need = cost["least_memory_bytes"], cost["peak_memory_bytes"]
        assert least < need
        return cost | {"memory_bytes_there": least + share * (need - least)}

    monkeypatch.setattr(foresee, "estimate", between)
    for share in (0, 1):
        found, screen = run(configured(), shapes_root, tmp_path)
        assert found["last"]["step"] == 5
        warnings = [note for note in screen.notes if note.startswith("it may run out of memory: a step takes about")]
        assert len(warnings) == 1 - share


def test_the_number_of_steps_follows_from_the_images(configured: Callable[..., Resolved], shapes_root: Path) -> None:
    resolved = configured(changes={"train.epochs": 3, "train.batch": 4})
    assert planned(resolved, shapes_root).config.train.steps == 6  # 8 unlabeled images
