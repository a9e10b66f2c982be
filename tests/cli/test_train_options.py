"""`semiseg train` as typed: its options are few and frozen, and this is what they ask of the stage."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fresh import begun

import semiseg_cli.cli.launch as launch
import semiseg_cli.core.data.index as index
import semiseg_cli.stages.foresee as foresee
import semiseg_cli.stages.train as stage
from semiseg_cli.cli import console, main
from semiseg_cli.cli.train import train
from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import flatten, resolve, with_steps
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.files import STATE
from semiseg_cli.core.runs.results import finish

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "RUN", "--method -m", "--add", "--backbone -b", "--weights", "--preset -p", "--init", "--config -c", "--set -s",
    "--data -d", "--labeled -l", "--root", "--runs-root", "--steps", "--batch", "--gpus", "--device", "--seed",
    "--out -o", "--resume", "--from", "--dry-run", "--json", "--quiet -q",
]  # fmt: skip

DONE = {
    "run": "runs/a b", "method": "unimatch", "partition": "own partition", "steps": 30, "seconds": 61.0,
    "last": {"step": 30, "miou": 40.0}, "best": {"step": 20, "miou": 41.234},
}  # fmt: skip
COST = {
    "step_ms": 12.0, "images_per_second": 8.0, "gflop_per_step": 3.5, "peak_memory_bytes": 2**30,
    "estimated_hours": 0.5, "steps": 9000, "device": "2 CPU cores", "labeled": 3, "unlabeled": 9,
    "partition": "classic 3",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, kind in (("park", "folder"), ("toys", "shapes")):
        root = tmp_path / "data" / name
        index.write_dataset(Dataset(name, kind, root, ("a", "b"), ((0, 0, 0), (1, 1, 1)), (), ()), {})
    yield tmp_path
    console.state = console.State()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stage was asked for; it answers with DONE, or COST for a dry run."""
    calls: dict[str, Any] = {}

    def start(resolved: Any, **more: Any) -> dict[str, Any]:
        calls.update(more, resolved=resolved)
        return COST if more["dry_run"] else DONE

    def resume(run: Path, **more: Any) -> dict[str, Any]:
        calls.update(more, run=run)
        return DONE

    monkeypatch.setattr(stage, "train", start)
    monkeypatch.setattr(stage, "resume", resume)
    images = COST["unlabeled"]
    planned = lambda resolved, root, device: replace(resolved, config=with_steps(resolved.config, images))  # noqa: E731
    monkeypatch.setattr(foresee, "planned", planned)
    return calls


def test_the_options_are_frozen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["train", "--help"]) == 0
    shown = re.findall(r"^\W+(RUN|--[a-z-]+)(?: +(-[a-z]))? ", capsys.readouterr().out, re.MULTILINE)
    assert [" ".join(filter(None, names)) for names in shown if names[0] != "--help"] == OPTIONS
    assert len(inspect.signature(train).parameters) == len(OPTIONS)


def test_flags_become_settings_of_the_command_line(asked: dict[str, Any]) -> None:
    line = "train -m fixmatch -d park -l 1/8 -b tiny -p shapes --steps 7 --batch 4 --weights none --seed 5"
    assert main([*line.split(), "-s", "train.crop=64"]) == 0
    found, origins = flatten(asked["resolved"].config), asked["resolved"].origins
    expected = {
        "method.name": "fixmatch", "data.name": "park", "data.labeled": "1/8", "model.backbone": "tiny",
        "train.steps": 7, "train.batch": 4, "model.weights": "none", "train.seed": 5,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert {origins[name] for name in expected} == {"command line"}
    assert (found["train.crop"], origins["train.crop"]) == (64, "--set")
    assert "preset shapes" in origins.values()


def test_plug_ins_are_added(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "-d", "park", "-m", "fixmatch", "--add", "masked", "--add", "interpixel", "-s", "masked.patch=8"]
    assert main(line) == 0
    found = asked.pop("resolved")
    assert list(found.config.plugins) == ["masked", "interpixel"]
    assert (found.config.plugins["masked"].patch, found.origins["masked.patch"]) == (8, "--set")
    assert main([*line, "--add", "masked"]) == 2
    assert "the plug-in 'masked' is added twice" in capsys.readouterr().err
    assert main(["train", "-d", "park", "-m", "supervised", "--add", "masked"]) == 2
    assert "supervised gives the plug-in 'masked' nothing to act on" in capsys.readouterr().err
    assert "resolved" not in asked


def test_paths_go_to_the_stage(asked: dict[str, Any], folder: Path) -> None:
    (folder / "data").rename(folder / "elsewhere")
    (folder / "a.safetensors").touch()
    line = "train -d park --root elsewhere --runs-root r -o out --init a.safetensors --device cpu"
    assert main(line.split()) == 0
    names = ("data_root", "runs_root", "out", "init", "device", "dry_run")
    expected = [Path("elsewhere"), Path("r"), Path("out"), Path("a.safetensors"), "cpu", False]
    assert [asked[name] for name in names] == expected


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("runs/old", "runs/old/best.safetensors"),
        ("runs/old/last.safetensors", "runs/old/last.safetensors"),
        ("newest", "runs/old/best.safetensors"),
    ],
)
def test_init_and_weights_take_a_run_a_file_and_the_newest(
    asked: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], named: str, file: str
) -> None:
    old = folder / "runs" / "old"
    old.mkdir(parents=True)
    for name in ("config.toml", "best.safetensors", "last.safetensors"):
        (old / name).touch()
    assert main(["train", "-d", "park", "--init", named]) == 0
    assert asked["init"] == Path(file)
    assert main(["train", "-d", "park", "--weights", named]) == 0
    assert flatten(asked["resolved"].config)["model.weights"] == file
    assert capsys.readouterr().err.count("newest run with a network: runs/old") == 2 * (named == "newest")


def test_the_environment_names_the_folders(
    asked: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data").rename(folder / "elsewhere")
    monkeypatch.setenv("SEMISEG_DATA", "elsewhere")
    monkeypatch.setenv("SEMISEG_RUNS", "r")
    assert main(["train", "-d", "park"]) == 0
    assert (asked["data_root"], asked["runs_root"]) == (Path("elsewhere"), Path("r"))


def test_the_datasets_kind_chooses_the_preset(asked: dict[str, Any]) -> None:
    for name, preset in (("toys", "preset shapes"), ("park", "preset small")):
        assert main(["train", "-d", name]) == 0
        assert preset in asked["resolved"].origins.values()


def test_with_no_name_it_is_the_only_dataset_or_an_error(
    asked: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train"]) == 2
    assert "park, toys" in capsys.readouterr().err
    (folder / "data" / "toys" / "dataset.toml").unlink()
    assert main(["train"]) == 0
    assert asked["resolved"].config.data.name == "park"


def test_semiseg_toml_in_the_working_directory_is_read(asked: dict[str, Any], folder: Path) -> None:
    (folder / "semiseg.toml").write_text('[data]\nname = "park"\n[train]\ncrop = 80\n')
    assert main(["train"]) == 0
    assert asked["resolved"].config.train.crop == 80


def test_the_result_is_the_only_thing_on_stdout(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-d", "park"]) == 0
    shown = capsys.readouterr().out
    assert "mIoU 40.00 at the last step, best 41.23 at step 20" in shown
    assert "next: semiseg eval 'runs/a b'" in shown
    assert main(["train", "-d", "park", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "train", "result": DONE}


def test_a_run_without_evaluation_has_a_result_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "train", lambda *args, **more: {**DONE, "last": None, "best": None})
    assert main(["train", "-d", "park"]) == 0
    assert "mIoU" not in capsys.readouterr().out


def test_a_process_that_is_not_the_first_says_nothing(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "-d", "park", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_a_dry_run_shows_every_setting_with_its_origin_and_the_cost(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-d", "park", "--dry-run", "--steps", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert asked["dry_run"]
    assert ["train.steps", "9", "command", "line"] in [line.split() for line in lines]
    assert {line.split()[0] for line in lines if line and "." in line.split()[0]} == set(
        flatten(asked["resolved"].config)
    )
    assert lines[-1].startswith("9,000 steps: about 30:00 in all")
    assert "classic 3: 3 labeled and 9 unlabeled images, on 2 CPU cores" in lines
    assert main(["train", "-d", "park", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["cost"] == COST
    assert main(["train", "-d", "park", "--dry-run", "-s", "train.epochs=5", "-s", "train.batch=4"]) == 0
    assert ["train.steps", "10", "--set,", "by", "train.epochs"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]
    assert found["settings"]["data.name"] == {"value": "park", "from": "command line"}


def make_run(root: Path, name: str) -> Path:
    run = runs.create_run(root, name)
    runs.write_config(run, resolve([("test", {})]))
    return run


def test_resume_takes_the_named_run_or_the_newest_unfinished(asked: dict[str, Any], folder: Path) -> None:
    old, done, failed = (make_run(folder / "runs", name) for name in ("old", "done", "failed"))
    (old / STATE).parent.mkdir()
    (old / STATE).touch()
    finish(done, {})
    assert main(["train", "--resume"]) == 0
    assert asked["run"] == Path("runs") / old.name
    assert failed.is_dir()  # before its first state
    assert main(["train", "--resume", str(done), "--steps", "3", "-s", "train.lr=1"]) == 0
    assert asked["run"] == done
    assert asked["overrides"] == {"train.steps": 3, "train.lr": "1"}


@pytest.mark.parametrize("more", ["-p small", "-c a.toml", "--init a", "-o b", "--dry-run"])
def test_resume_takes_nothing_that_makes_a_new_run(
    more: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", *more.split()]) == 2
    assert "so it takes no --" in capsys.readouterr().err
    assert asked == {}


def test_a_run_without_resume_is_refused_with_the_command_that_was_meant(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "runs/a"]) == 2
    assert "try: semiseg train --resume runs/a" in capsys.readouterr().err
    assert asked == {}


@pytest.mark.parametrize("line", ["-m unimach", "-p smal", "-s train.lrr=1", "-s lr", "--batch 0", "-c absent.toml"])
def test_what_cannot_be_is_a_usage_error(line: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-d", "park", *line.split()]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert asked == {}


def test_gpus_start_the_same_line_under_torchrun_once(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    started: list[Any] = []

    def relaunch(gpus: int, arguments: list[str]) -> int:
        started.append((gpus, arguments))
        return 6

    monkeypatch.setattr(launch, "relaunch", relaunch)
    line = ["train", "-d", "park", "--gpus", "2"]
    assert main(line) == 6
    assert started == [(2, line)]
    assert asked == {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(line) == 0
    assert len(started) == 1


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"this machine has 1 CUDA device$"):
        launch.relaunch(2, ["train"])
    assert main(["train", "--gpus", "2"]) == 4


QUICK = "-d shapes -m supervised -b tiny --weights none --device cpu --batch 2 --steps 5 -s train.crop=33 -o out"


def test_an_unreadable_image_ends_the_command_with_its_workers(folder: Path, shapes_root: Path) -> None:
    shutil.copytree(shapes_root, folder / "bad")
    for image in (folder / "bad" / "shapes" / "images").glob("train_*"):
        image.write_bytes(b"no image")
    process = subprocess.run(
        [sys.executable, "-m", "semiseg_cli", "train", *QUICK.split(), "--root", "bad", "-s", "train.workers=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,  # read to its end: nobody is left who could write
        text=True,
        timeout=120,
    )
    assert process.returncode == 3
    assert re.search(r"^error: cannot read .*train_\d+\.png$", process.stderr, re.MULTILINE)
    assert "  why: it is damaged" in process.stderr
    assert "  try: " in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_stage_has_begun(
    number: int, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("semiseg_cli.core.config.presets.gather", lambda *_, **__: os.kill(os.getpid(), number))
    assert main(["train", "-d", "park"]) == 130
    assert capsys.readouterr().err.startswith("stopped before the first step; nothing was saved\n  next: ")
    assert asked == {}


def builds_for_long(*words: str) -> int:
    def build(*_: Any) -> None:
        Path("building").touch()
        time.sleep(60)

    stage.open_session = build
    return main(words)


def test_a_signal_while_networks_are_built(folder: Path, shapes_root: Path) -> None:
    process = begun(builds_for_long, "train", *QUICK.split(), "--root", str(shapes_root), folder=folder)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "building").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (folder / "out").exists()
        process.terminate()
        process.join(30)
    finally:
        process.kill()
    shown = (folder / "stderr").read_text()
    assert process.exitcode == 130
    told = "stopped before the first step; nothing was saved\n  next: the same command starts it anew\n"
    assert f"\n{shown}".endswith(f"\n{told}")
    assert not (folder / "out").exists()
