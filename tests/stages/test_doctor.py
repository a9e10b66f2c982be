"""`doctor` here, and where the libraries are broken: stand-ins on PYTHONPATH that fail as real ones do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from semiseg_cli.cli import console, main
from semiseg_cli.cli.doctor import _device as device_line
from semiseg_cli.stages import doctor
from semiseg_cli.stages.fitness import _device, fitness
from semiseg_cli.stages.prepare import prepare_shapes

WORKING = {"torch": "2.15", "torchvision": "0.29", "fit": True, "cuda": None, "threads": 2, "devices": [], "error": ""}


@pytest.fixture(autouse=True)
def fresh() -> Any:
    yield
    console.state = console.State()


def whats(found: dict[str, Any]) -> str:
    return "\n".join(each["what"] for each in found["problems"])


def stand_in(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


def test_the_libraries_here_work() -> None:
    found = fitness()
    assert found["fit"], found["error"]
    assert found["torch"].startswith("2.")
    assert all(device["works"] for device in found["devices"])


def test_a_sound_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_fitness", lambda: WORKING)
    monkeypatch.setattr(doctor, "LITTLE_DISK", 0)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    prepare_shapes(tmp_path / "data", labeled=2, unlabeled=1, val=1, size=48)
    assert main(["doctor", "--root", str(tmp_path / "data"), "--runs-root", str(tmp_path / "new" / "runs")]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows["torch"].endswith("work together")
    assert rows["data"].endswith("shapes: 2 labeled, 1 unlabeled, 1 val")
    assert "ms on one core" in rows["decode"]
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) < 80
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("library", "code", "said"),
    [
        ("torch", "raise ImportError('libcudart.so.13: cannot open')", "ImportError: libcudart.so.13"),
        ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", "nms does not exist"),
        ("torchvision", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "ended the process with code -11"),
    ],
)
def test_broken_libraries_are_told_and_the_rest_is_shown(
    library: str, code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if library == "torchvision":
        stand_in(tmp_path / "lib", "torch", "__version__ = '2.15'\nversion = type('v', (), {'cuda': None})\n"
                                            "def get_num_threads(): return 1")  # fmt: skip
    stand_in(tmp_path / "lib", library, code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    assert main(["doctor", "--root", str(tmp_path), "--json"]) == 7
    found = json.loads(capsys.readouterr().out)["result"]
    assert said in whats(found)
    assert "force-reinstall torch torchvision" in found["problems"][0]["fix"]
    assert found["decode"]["ms"] > 0
    assert found["libraries"]["fit"] is False


def test_what_else_can_be_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"opencv-python": "5.0", "opencv-python-headless": "5.0", "torch": "2.15", "torchvision": "0.29"}
    broken = {"name": "H200", "works": False, "error": "RuntimeError: no kernel image"}
    monkeypatch.setattr(doctor, "_fitness", lambda: WORKING | {"devices": [broken]})
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "scipy" else versions.get(name, "1"))
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1e30)
    (tmp_path / "data" / "odd").mkdir(parents=True)
    (tmp_path / "data" / "odd" / "dataset.toml").write_text("[")
    found = whats(doctor.examine(tmp_path / "data", tmp_path / "runs"))
    assert "scipy is not installed" in found
    assert "H200 does not compute: RuntimeError: no kernel image" in found
    assert "opencv-python and opencv-python-headless" in found
    assert f"GB free in {tmp_path / 'data'} (data)" in found
    assert "prepared data: DataError" in found
    assert "do not work together" not in found


def test_a_driver_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_fitness", lambda: WORKING)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = whats(doctor.examine(tmp_path, tmp_path))
    assert "there is an NVIDIA driver, but torch finds no device (it is a CPU build)" in found


def test_a_check_that_never_ends_or_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "FITNESS_SECONDS", 0.01)
    assert "TimeoutExpired" in doctor._fitness()["error"]


def test_opencv_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "_fitness", lambda: WORKING)
    monkeypatch.setattr(doctor, "_opencv", broken)
    assert "OpenCV does not work: ImportError: libGL" in whats(doctor.examine(tmp_path, tmp_path))


def test_a_cuda_device_is_described_and_tried() -> None:
    class Cuda:
        @staticmethod
        def get_device_properties(index: int) -> SimpleNamespace:
            return SimpleNamespace(name="H200", total_memory=139 * 2**30, major=9, minor=0)

        @staticmethod
        def mem_get_info(index: int) -> tuple[int, int]:
            return 130 * 2**30, 139 * 2**30

    def ones(*size: int, device: str, dtype: torch.dtype) -> torch.Tensor:
        assert (device, dtype) == ("cuda:0", torch.bfloat16)
        return torch.ones(*size, dtype=dtype)

    stand_in = SimpleNamespace(cuda=Cuda, bfloat16=torch.bfloat16, float32=torch.float32, ones=ones)
    found = _device(stand_in, 0)
    assert device_line(found) == "H200, 139 GiB, 130 free, capability 9.0, with bfloat16, works"
    stand_in.ones = None
    found = _device(stand_in, 0)
    assert not found["works"]
    assert "does not compute: TypeError" in device_line(found)
