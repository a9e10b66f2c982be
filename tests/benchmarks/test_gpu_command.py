"""`benchmarks/gpu.sh` on a CPU: the whole way through it with tiny settings, and what it says without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, suite
from benchmarks.rows import BASE, COMPARED, LEAD, STEPS, TRAININGS, Row
from benchmarks.table import table
from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.methods import METHODS
from semiseg_cli.stages import bench

ROWS = [row for row in (*LEAD, *STEPS, *COMPARED) if isinstance(row, Row)]


@pytest.fixture(autouse=True)
def _small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing those of a usual size takes most of a test."""
    monkeypatch.setattr(bench, "HEIGHT", 75)
    monkeypatch.setattr(bench, "WIDTH", 100)


def test_every_kind_of_part_on_a_cpu(
    shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    unreported: None,
) -> None:  # fmt: skip
    """The tests that it starts are one that needs no PyTorch."""
    assert all((suite.ROOT / file).is_file() for file in suite.QUICK)
    (tmp_path / "test_one.py").write_text("import pytest\n@pytest.mark.gpu\ndef test_one(): pass\n")
    monkeypatch.setattr(suite, "QUICK", [str(tmp_path / "test_one.py")])
    out = tmp_path / "deeper" / "found.json"
    chosen = ("gpu tests", "peak", "guidedmix", "supervised", "train supervised")
    words = [flag for word in chosen for flag in ("--only", word)]
    line = ["--device", "cpu", "--tiny", "--steps", "1", "--out", str(out), "--data", str(shapes_root), *words]
    assert gpu.main(line) == 0
    document = json.loads(out.read_text())
    assert document["machine"]["torch"]
    parts = {part["name"]: part for part in document["parts"]}
    order = ["gpu tests", "bf16 peak", "supervised", "guidedmix", "train supervised"]
    assert list(parts) == order
    assert {part["state"] for part in parts.values()} == {"done"}
    assert (parts["gpu tests"]["passed"], parts["gpu tests"]["skipped"]) == (1, 0)
    step = parts["guidedmix"]
    assert step["settings"]["train.crop"] == 33
    assert step["images_per_second"] == pytest.approx(4000 / step["step_ms"])
    assert step["tflops"] == pytest.approx(step["gflop_per_step"] / step["step_ms"])
    assert step["share_of_peak"] == pytest.approx(step["tflops"] / parts["bf16 peak"]["tflops"])
    assert parts["train supervised"]["last"]["step"] == 2
    printed = capsys.readouterr().out.splitlines()
    assert any(row.startswith("guidedmix  ") and row.endswith("%") for row in printed)
    assert any(row.startswith("train supervised: mIoU") for row in printed)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    nothing = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OUT": str(tmp_path)}
    script = Path(gpu.__file__).with_name("gpu.sh")
    done = subprocess.run([script], capture_output=True, text=True, env=nothing, timeout=120)
    assert done.returncode == 4
    assert "no CUDA device" in done.stderr
    assert "--device cpu --tiny" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "NEEDED", {"torch": "torch", "cv2_not_here": "opencv-python-headless"})
    assert gpu.main([]) == 4
    assert "pip install opencv-python-headless" in capsys.readouterr().err


def test_a_part_that_fails_makes_the_command_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--device", "cpu", "--tiny", "--only", "as published", "--unimatch", str(tmp_path)]
    assert gpu.main([*line, "--out", str(tmp_path / "found.json")]) == 1
    assert "failed: FileNotFoundError" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["parts"][0]["state"] == "failed"


def test_results_go_where_a_machine_brings_them_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = {"device": "NVIDIA H100 80GB HBM3", "date": "2026-11-27T20:13:59"}
    monkeypatch.setenv("OUT", str(tmp_path))
    assert gpu.default_out(machine) == tmp_path / "nvidia-h100-80gb-hbm3-2026-11-27T2013.json"
    monkeypatch.delenv("OUT")
    assert gpu.default_out(machine).parent == Path(gpu.__file__).parent / "results"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_a_configuration(row: Row) -> None:
    config = resolve([("row", BASE | row.settings)]).config
    assert config.train.amp == ("off" if "TF32" in row.name else "bf16")
    assert config.data.name == "synthetic"  # no row asks for files


def test_every_method_has_a_row_and_every_part_a_name_of_its_own() -> None:
    assert {row.settings["method.name"] for row in (*LEAD, *STEPS)} == set(METHODS)
    names = [row.name for row in (*LEAD, *STEPS, *COMPARED, *TRAININGS)]
    assert len(set(names)) == len(names)


STEP: dict[str, Any] = {
    "kind": "step", "state": "done", "images_per_second": 163.84, "step_ms": 97.66, "gflop_per_step": 7400.0,
    "step": {"median": 97.66, "min": 92.6, "max": 112.9}, "peak_memory_bytes": 6.25 * 2**30, "share_of_peak": 0.0957,
}  # fmt: skip


def test_table_has_a_line_a_row_however_wide() -> None:
    why = "OutOfMemoryError: " + 30 * "CUDA out of memory "
    parts = [
        {"kind": "tests", "name": "gpu tests", "state": "failed", "why": "60 passed, 0 skipped, a::b failed"},
        STEP | {"name": "unimatch"}, STEP | {"name": "no peak", "share_of_peak": None},
        {"kind": "step", "name": "stpg", "state": "failed", "why": why},
        {"kind": "training", "name": "train unimatch", "state": "left out", "why": "it takes about 90 s, 3 were left"},
    ]  # fmt: skip
    lines = table({"machine": {"device": "H100", "torch": "2.11", "commit": "abc"}, "parts": parts}).splitlines()
    assert lines[1] == "gpu tests: failed: 60 passed, 0 skipped, a::b failed"
    assert lines[4].split() == ["unimatch", "163.8", "97.7", "92.6", "112.9", "6.25", "7.40", "75.8", "9.6%"]
    assert len(lines[3]) == len(lines[4]) == len(lines[5])
    assert lines[5].endswith("-")
    assert lines[6].split(maxsplit=1) == ["stpg", f"failed: {why}"]
    assert lines[-1] == "train unimatch: left out: it takes about 90 s, 3 were left"
    none_done = table({"machine": {"device": "", "torch": "", "commit": ""}, "parts": parts[3:4]})
    assert "stpg" in none_done.splitlines()[-1]


REPORT = """<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1">
<testcase classname="tests.gpu.test_a" name="test_one[stpg]"/>
<testcase classname="tests.gpu.test_a" name="test_two"><failure message="a wait&#10;of the host">T</failure></testcase>
<testcase classname="tests.gpu.test_a" name="test_three"><skipped message="no device"/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(("code", "end"), [(1, "test_two failed"), (2, "test_two failed, then time was over")])
def test_failures_of_the_tests_are_named(tmp_path: Path, code: int, end: str) -> None:
    (tmp_path / "tests.xml").write_text(REPORT)
    found = suite.outcome(tmp_path / "tests.xml", code)
    assert (found["state"], found["passed"], found["skipped"]) == ("failed", 1, 1)
    assert found["why"] == f"1 passed, 1 skipped, tests.gpu.test_a::{end}"
    assert found["failures"][0]["said"] == ["a wait", "of the host"]


def test_interrupted_tests_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "test_two.py"
    file.write_text(
        "import os, signal, pytest\npytestmark = pytest.mark.gpu\n"
        "def test_quick(): pass\ndef test_interrupted(): os.kill(os.getpid(), signal.SIGINT)\n"
    )
    monkeypatch.setattr(suite, "QUICK", [str(file)])
    found = suite.run(tmp_path, 60, tiny=True)
    assert (found["state"], found["passed"]) == ("failed", 1)
    assert found["why"].endswith("then time was over")


def test_tests_without_time_are_ended(tmp_path: Path) -> None:
    found = suite.run(tmp_path, 0.1, tiny=True)
    assert (found["state"], found["why"]) == ("failed", "pytest made no report")
