"""`summarise_runs` on run directories written by hand."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main
from semiseg_cli.core import runs
from semiseg_cli.core.inference.metrics import METRICS, Metric
from semiseg_cli.core.partitions import protocols
from semiseg_cli.core.runs.log import append_metrics
from semiseg_cli.core.runs.results import finish
from semiseg_cli.stages.runs import summarise_runs

Write = Callable[..., Path]
FINISHED = {"run": None, "partition": "", "steps": 1, "seconds": 1.0, "last": None, "best": None}


@pytest.fixture
def write(tmp_path: Path, configured: Callable[..., Any]) -> Write:
    """`write("a", [50.0, 60.0], seed=1)`: a run evaluated at steps 1, 2 ... 5 is its length, the end its last."""

    def make(name: str, mious: list[float], *, finished: bool = True, method: str = "unimatch", **changes: Any) -> Path:
        run = tmp_path / name
        run.mkdir()
        runs.write_config(run, configured(changes={key.replace("_", ".", 1): v for key, v in changes.items()}))
        for step, miou in enumerate(mious, 1):
            append_metrics(run, {"step": step, "loss": 1.0})
            append_metrics(run, {"step": step, "miou": miou, "pixel_accuracy": miou + 5})
        if finished:
            finish(run, FINISHED | {"method": method})
        return run

    return make


def test_a_row_per_run(write: Write, tmp_path: Path) -> None:
    write("a", [50.0, 60.0, 55.0], data_labeled="1/8", train_seed=3)
    found = summarise_runs(tmp_path)
    assert found["runs"] == [
        {
            "run": str(tmp_path / "a"), "method": "unimatch", "title": "unimatch", "data": "shapes", "labeled": "1/8",
            "backbone": "small", "partition": "", "unlabeled": None, "fingerprint": "", "protocol": "",
            "seed": 3, "step": 3, "steps": 5, "last": 55.0, "best": 60.0, "finished": True, "best_by": "miou",
            "metrics": {"miou": 55.0, "pixel_accuracy": 60.0},
        }
    ]  # fmt: skip
    assert found["seeds"] == []
    assert found["unreadable"] == []


def test_a_metric_may_have_a_column(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a", [50.0, 60.0])
    write("b", [])
    accuracy = Metric(name="pixel_accuracy", title="pixel accuracy", counted="somewhere:else", runs=True)
    monkeypatch.setattr("semiseg_cli.cli.runs.METRICS", (METRICS[0], accuracy))
    assert main(["runs", "--runs-root", str(tmp_path)]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["run"][-4:] == ["last", "best", "pixel", "accuracy"]
    assert rows["a"][-3:] == ["60.00", "60.00", "65.00"]
    assert rows["b"][-3:] == ["-", "-", "-"]


def test_a_run_that_has_just_begun(write: Write, tmp_path: Path) -> None:
    write("a", [], finished=False)
    row = summarise_runs(tmp_path)["runs"][0]
    assert (row["step"], row["last"], row["best"], row["finished"], row["labeled"]) == (0, None, None, False, "all")


def test_seeds_are_summed_up(write: Write, tmp_path: Path) -> None:
    for seed, mious in enumerate(([50.0, 40.0], [60.0, 50.0], [10.0, 90.0])):
        write(f"s{seed}", mious, train_seed=seed)
    write("unfinished", [1.0], finished=False, train_seed=7)
    write("another", [2.0], train_seed=8, train_lr=0.5)
    write("never-evaluated", [], train_seed=9)
    (group,) = summarise_runs(tmp_path)["seeds"]
    assert group["seeds"] == [0, 1, 2]
    assert (group["method"], group["data"], group["labeled"], group["steps"]) == ("unimatch", "shapes", "all", 5)
    assert group["last"]["mean"] == pytest.approx(60)
    assert group["last"]["deviation"] == pytest.approx((((-20) ** 2 + (-10) ** 2 + 30**2) / 2) ** 0.5)
    assert group["best"]["mean"] == pytest.approx(200 / 3)
    assert group["best"]["deviation"] == pytest.approx(statistics.stdev([50, 60, 90]))


def test_variants_of_a_method_are_told_apart(write: Write, tmp_path: Path) -> None:
    for seed in range(2):
        for name, cutmix in (("off", 0), ("on", 0.5)):  # the newest is named first
            write(f"{name}{seed}", [50.0], train_seed=seed, train_cutmix=cutmix)
        write(f"probe{seed}", [60.0], method="probe", train_seed=seed, train_steps=300)
    found = summarise_runs(tmp_path)
    titles = {Path(row["run"]).name: row["title"] for row in found["runs"]}
    names = {"on": "unimatch, cutmix 0.5", "off": "unimatch, cutmix 0", "probe": "probe"}
    assert titles == {f"{name}{seed}": title for name, title in names.items() for seed in range(2)}
    assert {group["title"] for group in found["seeds"]} == {*names.values()}


def test_numbers_of_labels_are_told_apart(write: Write, tmp_path: Path) -> None:
    for seed in range(2):
        for count in (4, 8):
            name = f"own partition, seed {seed}, {count} of 10 (classes)"
            run = write(f"{count}-{seed}", [50.0], train_seed=seed, data_labeled=str(count))
            (run / "partition.json").write_text(json.dumps({"name": name, "fingerprint": f"{count} {seed}"}))
    groups = {group["labeled"]: group["partition"] for group in summarise_runs(tmp_path)["seeds"]}
    assert groups == {count: f"2 own partitions, {count} of 10 (classes)" for count in ("4", "8")}


def test_seeds_on_different_partitions_are_not_summed_up(write: Write, tmp_path: Path) -> None:
    """The same words can mean a published list in one run and an own partition in another."""
    published = protocols.recognise("79b959bccf7753cd70bba8d5abdb7e9c0f16df053ce458916ae19a897149136d")
    assert published is not None
    own = {"name": "own partition, seed 0", "fingerprint": "0", "protocol": "classic"}
    for seed in range(2):
        partition = own | {"name": f"own partition, seed {seed}", "fingerprint": str(seed)}
        (write(f"own{seed}", [50.0], train_seed=seed) / "partition.json").write_text(json.dumps(partition))
        partition = {"name": str(published), "fingerprint": published.sha256, "protocol": "classic"}
        (write(f"list{seed}", [60.0], train_seed=seed) / "partition.json").write_text(json.dumps(partition))
        partition = own | {"protocol": "blender", "fingerprint": f"{seed}b"}
        (write(f"mixed{seed}", [70.0], train_seed=seed) / "partition.json").write_text(json.dumps(partition))
    groups = {group["last"]["mean"]: group["partition"] for group in summarise_runs(tmp_path)["seeds"]}
    assert groups == {50.0: "2 own partitions", 60.0: str(published), 70.0: own["name"]}


def test_runs_with_other_unlabeled_images_are_not_summed_up(write: Write, tmp_path: Path) -> None:
    mark = "79b959bccf7753cd70bba8d5abdb7e9c0f16df053ce458916ae19a897149136d"
    name = "classic 183, the set of UniMatch, U2PL and CPS"
    for unlabeled in (10399, 1281):
        noted = {"name": name, "fingerprint": mark, "protocol": "classic", "labeled": 183, "unlabeled": unlabeled}
        for seed in range(2):
            run = write(f"{unlabeled}-{seed}", [float(unlabeled)], train_seed=seed)
            (run / "partition.json").write_text(json.dumps(noted))
    groups = {group["last"]["mean"]: group["partition"] for group in summarise_runs(tmp_path)["seeds"]}
    assert groups == {10399.0: name, 1281.0: "classic 183, with 1,281 of 10,399 unlabeled"}


def test_of_one_seeds_runs_the_newest_counts(write: Write, tmp_path: Path) -> None:
    old, new = write("old", [10.0], train_seed=0), write("new", [20.0], train_seed=0)
    for number, run in enumerate((old, new, write("one", [40.0], train_seed=1))):
        for file in run.iterdir():
            os.utime(file, (number, number))
    (group,) = summarise_runs(tmp_path)["seeds"]
    assert (group["seeds"], group["last"]["mean"]) == ([0, 1], 30.0)


def test_a_broken_run_is_named_and_the_others_are_listed(write: Write, tmp_path: Path) -> None:
    write("good", [50.0])
    (write("toml", [50.0]) / "config.toml").write_text("[train\n")
    (write("lacks", [50.0]) / "config.toml").write_text("[train]\nseed = 1\n")
    (write("json", [50.0]) / "metrics.jsonl").write_text("{\n")
    found = summarise_runs(tmp_path)
    assert [row["run"] for row in found["runs"]] == [str(tmp_path / "good")]
    assert sorted(Path(line.split(":")[0]).name for line in found["unreadable"]) == ["json", "lacks", "toml"]


def test_no_runs(tmp_path: Path) -> None:
    assert summarise_runs(tmp_path / "nowhere") == {"runs": [], "seeds": [], "unreadable": []}
