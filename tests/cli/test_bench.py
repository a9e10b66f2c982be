"""`semiseg bench` as typed: the configuration it asks to be measured, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.bench as stage
from semiseg_cli.cli import main
from semiseg_cli.core.config.layers import flatten
from semiseg_cli.core.config.presets import load_preset

TIMES = {"median": 2.0, "min": 1.0, "max": 3.5}
FOUND: dict[str, Any] = {
    "crop": 64,
    "images_per_second": 12.34,
    "step_ms": 2.0,
    "gflop_per_step": 5.67,
    "peak_memory_bytes": 2**30,
    "device": "CPU, 1 threads",
    "step": TIMES,
    "parts": dict.fromkeys(("data", "forward", "backward", "optimiser", "after_step"), TIMES),
    "host": {
        "image": "500x375 jpg", "decode_ms": TIMES, "warp_ms": TIMES, "sample_ms": TIMES,
        "decodes_per_second": 500.0, "warps_per_second": 501.0,
    },
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def answer(resolved: Any, **how: Any) -> dict[str, Any]:
        seen.update(how, config=flatten(resolved.config))
        return FOUND

    monkeypatch.setattr(stage, "bench", answer)
    monkeypatch.delenv("SEMISEG_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return seen


def test_as_typed_it_needs_no_data_and_no_weights(asked: dict[str, Any]) -> None:
    assert main(["bench"]) == 0
    config = asked["config"]
    assert (asked["data_root"], asked["steps"], asked["device"]) == (None, 10, "auto")
    assert (config["method.name"], config["data.name"], config["model.weights"]) == ("unimatch", "synthetic", "none")
    assert config["train.cache_mb"] == 0
    assert config["train.crop"] == load_preset("small", "unimatch")["train.crop"]


def test_options_arrive(asked: dict[str, Any], shapes_root: Path) -> None:
    line = f"bench -m fixmatch -b tiny --crop 64 --batch 6 --steps 2 -d shapes -l 3 --root {shapes_root} --device cpu"
    assert main([*line.split(), "-s", "train.amp=bf16", "-s", "train.cache_mb=7"]) == 0
    config = asked["config"]
    assert (asked["data_root"], asked["steps"], asked["device"]) == (shapes_root, 2, "cpu")
    wanted = {
        "method.name": "fixmatch", "model.backbone": "tiny", "train.crop": 64, "train.batch": 6, "data.name": "shapes",
        "data.labeled": "3", "train.amp": "bf16", "train.cache_mb": 7, "train.scale": (0.7, 1.4),
    }  # fmt: skip
    assert wanted.items() <= config.items()


@pytest.mark.usefixtures("asked")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["backward", "2.0", "1.0", "3.5"] in rows
    assert ["after", "step", "(EMA)", "2.0", "1.0", "3.5"] in rows
    assert "12.3 images/s, 5.7 GFLOP a step, 1.00 GiB" in out
    assert "500x375 jpg to crop 64 on one core: 2.00 ms an image (decode 2.00, 500/s; warp 2.00, 501/s)" in out


@pytest.mark.usefixtures("asked")
def test_json_holds_the_names_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "bench"
    for name in ("images_per_second", "step_ms", "peak_memory_bytes", "gflop_per_step", "device", "parts"):
        assert name in document["result"]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("-m fixmach", 2, "did you mean 'fixmatch'"),
        ("-d nowhere", 3, "no prepared dataset 'nowhere'"),
        ("--device tpu", 2, "tpu"),
        ("-s train.crob=3", 2, "train.crop"),
        ("--batch 0", 2, "train.batch"),
    ],
)
def test_what_is_refused(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str], line: str, code: int, said: str
) -> None:
    assert main(["bench", *line.split()]) == code
    assert said in capsys.readouterr().err
    assert asked == {}


def test_an_unknown_backbone_and_no_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-b", "resnet51", "--steps", "1"]) == 2
    assert "resnet50" in capsys.readouterr().err
    assert main(["bench", "--steps", "0"]) == 2
    assert "--steps 10" in capsys.readouterr().err
