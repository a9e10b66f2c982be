"""`semiseg eval` as typed, on a small dataset and an untrained network: what it answers, and what options change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main
from semiseg_cli.core.inference import metrics
from semiseg_cli.core.inference.metrics import Metric
from semiseg_cli.stages.evaluate import evaluate_checkpoint

MISSED = Metric(name="missed", title="missed pixels", counted="semiseg_cli.core.inference.measures:pixel_accuracy")


@pytest.fixture
def typed(park: Path, park_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `eval` prints on stdout for the run and these options; its exit code must be as given."""
    monkeypatch.delenv("SEMISEG_DATA", raising=False)

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["eval", str(park_run), "--root", str(park), "--device", "cpu", *words]) == code
        return capsys.readouterr().out

    return run


@pytest.fixture
def result(typed: Any) -> Any:
    return lambda *words: json.loads(typed(*words, "--json"))["result"]


def test_json_is_one_document_with_the_result_of_the_stage(typed: Any, park: Path, park_run: Path) -> None:
    found = json.loads(typed("--json"))
    assert found == {"schema": 1, "command": "eval", "result": evaluate_checkpoint(park_run, root=park, device="cpu")}


def test_what_scripts_read_is_there(result: Any, park_run: Path) -> None:
    found = result()
    assert {"miou", "iou", "pixel_accuracy", "images", "checkpoint", "partition"} <= set(found)
    assert found["boundary_f"] is None
    assert (found["images"], found["checkpoint"]) == (3, str(park_run / "best.safetensors"))
    assert set(found["iou"]) == {"sky", "tree", "road"}


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("--window none", {"window": 0, "stride": None}),
        ("--window 32 --stride 1/2", {"window": 32, "stride": 0.5}),
        ("--scales 0.75,1,5/4", {"scales": [0.75, 1.0, 1.25]}),
        ("--flip", {"flip": True}),
        ("--split train", {"split": "train", "images": 1}),
        ("--data park", {"data": "park", "window": 64}),
    ],
)
def test_an_option_is_in_the_result_and_changes_it(result: Any, words: str, changed: dict[str, Any]) -> None:
    plain, found = result(), result(*words.split())
    assert {key: found[key] for key in changed} == changed
    assert found["miou"] != plain["miou"]


def test_the_batch_changes_nothing(result: Any) -> None:
    assert result("--batch", "1")["iou"] == pytest.approx(result("--batch", "7")["iou"], abs=1e-6)


def test_classes_that_are_absent_count_as_asked(result: Any) -> None:
    plain, one = result("--boundary"), result("--boundary", "--absent-as-one")
    zero = result("--boundary", "--absent-as-zero")
    assert [found["absent_as_one"] for found in (plain, one, zero)] == [False, True, False]
    assert [found["absent_as_zero"] for found in (plain, one, zero)] == [False, False, True]
    assert 0 <= plain["boundary_f"] <= one["boundary_f"] <= 100
    assert plain["boundary_f"] == zero["boundary_f"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--absent-as-one", "try: --boundary --absent-as-one"),
        ("--absent-as-one --absent-as-zero", "try: --boundary --absent-as-one"),
        ("--stride 1/2 --window none", "--stride is the step of a window, and whole images are shown"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(
    park: Path, park_run: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(park_run), "--root", str(park), "--device", "cpu", *words.split()]) == 2
    assert said in capsys.readouterr().err


def test_predictions_are_saved_on_request(typed: Any, tmp_path: Path) -> None:
    typed("--save", str(tmp_path / "out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["v0.png", "v1.png", "v2.png"]


def test_the_table_has_what_json_has(typed: Any, result: Any) -> None:
    found, rows = result("--boundary"), [line.split() for line in typed("--boundary").splitlines()]
    for name, value in found["iou"].items():
        assert [name, f"{value:.2f}"] in rows
    assert ["mIoU", f"{found['miou']:.2f}"] in rows
    assert ["pixel", "accuracy", f"{found['pixel_accuracy']:.2f}"] in rows
    assert ["boundary", "F-score", f"{found['boundary_f']:.2f}"] in rows
    plain = typed()
    assert "boundary" not in plain
    assert "3 images of park val, windows of 36 px" in plain
    assert f"{found['checkpoint']}: unimatch, step 30, own partition, seed 0, 1 of 2" in plain


def test_a_metric_that_is_declared_is_in_the_table_and_in_json(
    typed: Any, result: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cli.eval", "stages.evaluate", "core.inference.measures"):
        monkeypatch.setattr(f"semiseg_cli.{module}.METRICS", (*metrics.METRICS, MISSED))
    found = result()
    assert found["missed"] == found["pixel_accuracy"]
    assert ["missed", "pixels", f"{found['missed']:.2f}"] in [line.split() for line in typed().splitlines()]


def test_classes_by_frequency(typed: Any, result: Any) -> None:
    found = result()
    assert "pixels" not in typed()
    rows = [line.split() for line in typed("--by-frequency").splitlines() if line.strip()]
    assert ["class", "IoU", "%", "pixels", "%"] in rows
    ranked = sorted(found["frequency"], key=lambda name: -found["frequency"][name])
    start = next(place for place, row in enumerate(rows) if row[0] == ranked[0])
    wanted = [[name, f"{found['iou'][name]:.2f}", f"{found['frequency'][name]:.2f}"] for name in ranked]
    assert rows[start : start + 3] == wanted
    assert ["head:", "the", "2", "most", "frequent", f"{found['by_frequency']['head']['miou']:.2f}"] in rows
    assert ["tail:", "the", "1", "rarest", f"{found['by_frequency']['tail']['miou']:.2f}"] in rows


def test_require_miou_fails_only_below_and_after_printing(typed: Any, result: Any) -> None:
    miou = result()["miou"]
    typed("--require-miou", f"{miou - 0.01}")
    assert "mIoU" in typed("--require-miou", f"{miou + 0.01}", code=7)


def test_the_data_root_comes_from_the_environment(
    park: Path, park_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["eval", str(park_run), "--device", "cpu"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMISEG_DATA", str(tmp_path / "nowhere"))
    assert main(words) == 3
    monkeypatch.setenv("SEMISEG_DATA", str(park))
    assert main(words) == 0


@pytest.mark.parametrize(
    "words", [("--stride", "two"), ("--stride", "1/0"), ("--scales", "1,,2"), ("--scales", ""), ("--window", "wide")]
)
def test_numbers_that_are_none(typed: Any, capsys: pytest.CaptureFixture[str], words: tuple[str, str]) -> None:
    typed(*words, code=2)
