"""Run directories: names that never collide, files that survive a crash, and errors that are kept."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import flatten, resolve
from semiseg_cli.core.errors import CheckpointError, DataError, Interrupted, UsageError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.runs.environment import write_environment
from semiseg_cli.core.runs.log import append_metrics
from semiseg_cli.core.runs.results import finish

RESOLVED = resolve([("test", {"method.name": "fixmatch", "data.name": "park", "data.labeled": "1/8", "train.seed": 3})])


def make(root: Path, name: str, age: float) -> Path:
    run = runs.create_run(root, name)
    runs.write_config(run, RESOLVED)
    os.utime(run / "config.toml", (age, age))
    return run


@pytest.mark.parametrize(
    ("labeled", "part"),
    [
        ("", "all"), ("183", "183"), ("1/8", "1of8"), ("lists/few images.txt", "few images"),
        ("classic/183", "classic-183"), ("/data/voc/splits/mine", "splits-mine"), ("mine", "mine"),
    ],
)  # fmt: skip
def test_a_runs_name_says_what_it_is(labeled: str, part: str) -> None:
    layer = {"method.name": "fixmatch", "data.name": "park", "data.labeled": labeled, "model.backbone": "tiny"}
    assert runs.run_name(resolve([("test", layer)]).config) == f"park-{part}-fixmatch-tiny-s0"


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    root = tmp_path / "made" / "runs"
    assert [runs.create_run(root, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


def test_processes_that_start_at_once_get_different_directories(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(runs.create_run(tmp_path, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_an_asked_directory_is_taken_only_if_it_is_empty(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine"
    assert runs.claim_run(out) == out
    assert runs.claim_run(out) == out
    (out / "config.toml").touch()
    with pytest.raises(UsageError, match="exists already") as caught:
        runs.claim_run(out)
    assert f"--resume {out}" in caught.value.fix
    with pytest.raises(UsageError, match="not a directory"):
        runs.claim_run(out / "config.toml")


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    old, new = make(tmp_path, "old", 1000), make(tmp_path, "new", 2000)
    (tmp_path / "no run").mkdir()
    assert runs.list_runs(tmp_path) == [new, old]
    append_metrics(old, {"step": 1})
    assert runs.list_runs(tmp_path) == [old, new]
    finish(old, {"last": None})
    assert [runs.is_finished(run) for run in (old, new)] == [True, False]


def test_a_configuration_reads_back_from_a_run(tmp_path: Path) -> None:
    run = make(tmp_path, "a", 1000)
    assert resolve([("file", runs.read_config(run))]).config == RESOLVED.config
    assert flatten(RESOLVED.config)["data.labeled"] == "1/8"
    assert "# test" in (run / "config.toml").read_text()
    with pytest.raises(UsageError, match="is not a run"):
        runs.read_config(tmp_path)


def test_a_run_may_hold_what_is_refused_today(tmp_path: Path) -> None:
    """A value that nothing reads, which earlier versions took, is none of a run's business; a wrong one is."""
    layer = {"method.name": "meanteacher", "method.weight": "confidence", "method.alpha": 0.9}
    runs.write_config(tmp_path, resolve([("test", layer)]))
    text = (tmp_path / "config.toml").read_text(encoding="utf-8")
    write_text(tmp_path / "config.toml", text.replace("tau = 0.95", "tau = 0.9"))
    assert runs.read_config(tmp_path)["method.tau"] == 0.9
    assert runs.config_of(tmp_path) == resolve([("test", layer)]).config
    with pytest.raises(UsageError, match=r"method\.tau = 0\.9 .* where method\.pixel_weight is confidence") as caught:
        resolve([("command line", layer | {"method.tau": 0.9})])
    assert (caught.value.why, caught.value.fix) == ("it was set by: command line", "--set method.tau=0.95")
    write_text(tmp_path / "config.toml", text.replace("alpha = 0.9", "alpha = 9.0"))
    with pytest.raises(UsageError, match=r"method\.alpha"):
        runs.config_of(tmp_path)


@pytest.mark.parametrize(
    ("method", "then", "idle"),
    [
        ("stpg", {"method.modules": "single"}, {"method.pixel_selection": "low"}),
        ("stpg", {"method.modules": "single"}, {"method.pixel_selection": "none"}),
        ("stpg", {"method.memory_size": 0}, {"method.phi": 0.5, "method.lambda_ctr": 0.3, "method.embedding": 8}),
        ("stpg", {"method.lambda_ctr": 0.0}, {"method.memory_size": 64, "method.memory_topk": 8}),
        ("stpg", {"method.alpha": 0.9}, {"train.cutmix": 0.5}),  # all images were mixed whatever it said
        ("stpg", {"method.alpha": 0.9}, {"method.deployed": "gen_student", "method.projection_input": "aspp"}),
        ("s4mim", {"method.lambda_mf": 0.0}, {"method.alpha": 0.9, "method.temperature": 2.0}),
        ("ipixmatch", {"method.ema_teacher": False}, {"method.ema_decay": 0.5}),
    ],
)
def test_a_run_goes_on_as_it_was(method: str, then: dict[str, Any], idle: dict[str, Any], tmp_path: Path) -> None:
    """What nothing read when it began is at its default now; typed today it is refused, unless it changes nothing."""
    layer = {"method.name": method, **then}
    lines = {table: [f"[{table}]"] for table in ("method", "train")}
    for name, value in (layer | idle).items():
        table, key = name.split(".")
        lines[table].append(f"{key} = {json.dumps(value)}")
    write_text(tmp_path / "config.toml", "\n".join(line for table in lines.values() for line in table) + "\n")
    assert runs.config_of(tmp_path) == resolve([("test", layer)]).config
    if "method.deployed" not in idle:
        with pytest.raises(UsageError, match="nothing reads it there"):
            resolve([("command line", layer | idle)])


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_text(path, "old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_errors_are_recorded_with_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, runs.recording(tmp_path):
        raise DataError("broken mask")
    log = tmp_path / "error.log"
    assert "broken mask" in log.read_text()
    assert "Traceback" in log.read_text()
    assert caught.value.__notes__ == [f"the traceback is in {log}"]
    with pytest.raises(ZeroDivisionError), runs.recording(tmp_path):
        raise ZeroDivisionError
    assert log.read_text().count("Traceback") == 2


def test_an_interruption_is_no_error(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), runs.recording(tmp_path):
        raise Interrupted("stopped")
    with pytest.raises(KeyboardInterrupt), runs.recording(tmp_path):
        raise KeyboardInterrupt
    assert not (tmp_path / "error.log").exists()


def test_a_full_disk_does_not_hide_the_error(tmp_path: Path) -> None:
    (tmp_path / "error.log").mkdir()  # cannot be opened as a file
    with pytest.raises(DataError, match="broken mask"), runs.recording(tmp_path):
        raise DataError("broken mask")


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("config.toml", lambda run: runs.write_config(run, RESOLVED)),
        ("environment.json", lambda run: write_environment(run, "a device")),
        ("metrics.jsonl", lambda run: append_metrics(run, {"step": 1})),
        ("result.json", lambda run: finish(run, {"last": None})),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_the_way_on(
    tmp_path: Path, name: str, write: Callable[[Path], None], saved: bool
) -> None:
    run = tmp_path / "a run"
    (run / name).mkdir(parents=True)  # a folder of that name: no file can take its place
    if saved:
        (run / "resume").mkdir()
        (run / "resume" / "state.safetensors").touch()
    with pytest.raises(CheckpointError, match="cannot write") as caught:
        write(run)
    assert str(run / name) in caught.value.what
    assert caught.value.why
    assert caught.value.fix.endswith(f"semiseg train --resume '{run}'" if saved else "start a new run")


def test_a_run_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot make a run directory") as caught:
        runs.create_run(tmp_path / "file" / "runs", "a")
    assert "--runs-root" in caught.value.fix

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(CheckpointError, match="cannot make the run directory") as caught:
        runs.claim_run(tmp_path / "mine")
    assert "-o" in caught.value.fix


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", "a\0b"])
def test_a_run_stays_in_the_folder_of_runs(tmp_path: Path, name: str) -> None:
    config = resolve([("test", {"data.name": name, "model.backbone": "tiny"})]).config
    run = runs.create_run(tmp_path / "runs", runs.run_name(config))
    assert run.parent == tmp_path / "runs"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    with pytest.raises(UsageError, match="is not possible"):
        runs.create_run(tmp_path / "runs", name)


def test_a_killed_writer_of_a_first_file_is_swept_too(tmp_path: Path) -> None:
    names = ("evaluation.json", "report.html", "metrics.jsonl", "best.safetensors", "resume/state.safetensors")
    (tmp_path / "resume").mkdir()
    for name in names:
        path = tmp_path / name
        (path.parent / f".{path.name}.ab12_xyz").touch()
    (tmp_path / ".of somebody").touch()
    runs.sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob(".*")] == [".of somebody"]
